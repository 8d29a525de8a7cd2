{{/* Begins the name of every object; `sparks` for a release of that name. */}}
{{- define "sparks.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-sparks" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* Labels of every object; call with (list . "controller"|"node"|"gateway"|""). */}}
{{- define "sparks.labels" -}}
{{- $root := index . 0 }}{{ $component := index . 1 -}}
{{ include "sparks.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end }}

{{/* The controller finds the agents by name=sparks, component=node (src/api/src/labels.rs, AGENT_SELECTOR). */}}
{{- define "sparks.selector" -}}
{{- $root := index . 0 }}{{ $component := index . 1 -}}
app.kubernetes.io/name: sparks
app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- with $component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{- define "sparks.image" -}}
{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}

{{- define "sparks.guestImage" -}}
{{ printf "%s:%s" .Values.guestImage.repository (.Values.guestImage.tag | default .Chart.AppVersion) }}
{{- end }}

{{/* The agent's argument for its pool; storage must name exactly one. */}}
{{- define "sparks.storageArgument" -}}
{{- $arguments := list }}
{{- with .Values.storage.loopFile }}{{ $arguments = append $arguments (printf "--loop-file-size=%s" .size) }}{{ end }}
{{- with .Values.storage.device }}{{ $arguments = append $arguments (printf "--device=%s" .) }}{{ end }}
{{- with .Values.storage.path }}{{ $arguments = append $arguments (printf "--pool-path=%s" .) }}{{ end }}
{{- if ne (len $arguments) 1 }}
{{- fail (printf "storage must name exactly one of loopFile, device and path, and names %d; loopFile is the default, so set it to null beside another" (len $arguments)) }}
{{- end }}
{{- index $arguments 0 }}
{{- end }}
