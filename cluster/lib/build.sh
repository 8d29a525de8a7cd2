# shellcheck shell=bash
# The cluster's programs, built from the modules that are pinned in tools/ and kept in a cache.

# One line for each program: module folder, program, Go package.
programs() {
  cat <<'END'
ociarchive ociarchive .
pause pause -
runc runc github.com/opencontainers/runc
cni loopback github.com/containernetworking/plugins/plugins/main/loopback
cni ptp github.com/containernetworking/plugins/plugins/main/ptp
cni host-local github.com/containernetworking/plugins/plugins/ipam/host-local
cni portmap github.com/containernetworking/plugins/plugins/meta/portmap
etcd etcd go.etcd.io/etcd/server/v3
containerd containerd github.com/containerd/containerd/v2/cmd/containerd
containerd containerd-shim-runc-v2 github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2
containerd ctr github.com/containerd/containerd/v2/cmd/ctr
kubernetes kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver
kubernetes kube-controller-manager k8s.io/kubernetes/cmd/kube-controller-manager
kubernetes kube-scheduler k8s.io/kubernetes/cmd/kube-scheduler
kubernetes kubelet k8s.io/kubernetes/cmd/kubelet
kubernetes kube-proxy k8s.io/kubernetes/cmd/kube-proxy
kubernetes kubectl k8s.io/kubernetes/cmd/kubectl
coredns coredns .
helm helm helm.sh/helm/v3/cmd/helm
END
}

# pinned FOLDER MODULE: the version that the folder's go.mod asks for.
pinned() {
  awk -v module="$2" '{ for (i = 1; i < NF; i++) if ($i == module && $(i + 1) ~ /^v/) { print $(i + 1); exit } }' \
    "$CLUSTER/tools/$1/go.mod"
}

version_of() {
  case $1 in
    kubernetes) pinned kubernetes k8s.io/kubernetes ;;
    etcd) pinned etcd go.etcd.io/etcd/server/v3 ;;
    containerd) pinned containerd github.com/containerd/containerd/v2 ;;
    runc) pinned runc github.com/opencontainers/runc ;;
    cni) pinned cni github.com/containernetworking/plugins ;;
    coredns) pinned coredns github.com/coredns/coredns ;;
    helm) pinned helm helm.sh/helm/v3 ;;
    agent-sandbox) pinned agent-sandbox sigs.k8s.io/agent-sandbox ;;
    *) echo "of this checkout" ;;
  esac
}

# Without these the programs report v0.0.0 or "unknown", and clients choose their behaviour by version.
link_flags() {
  local version=$1 kubernetes minor
  version=$(version_of "$1")
  kubernetes=$(version_of kubernetes)
  minor=${kubernetes#v1.}
  minor=${minor%%.*}
  printf '%s' '-s -w'
  case $1 in
    kubernetes) printf ' -X k8s.io/component-base/version.%s' "gitVersion=$version" gitMajor=1 "gitMinor=$minor" gitTreeState=clean ;;
    containerd) printf ' -X github.com/containerd/containerd/v2/version.Version=%s' "$version" ;;
    cni) printf ' -X github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=%s' "$version" ;;
    helm)
      printf ' -X helm.sh/helm/v3/internal/version.version=%s' "$version"
      printf ' -X helm.sh/helm/v3/pkg/%s' {lint/rules,chartutil}.k8sVersionMajor=1 {lint/rules,chartutil}.k8sVersionMinor="$minor"
      ;;
  esac
}

build_tags() {
  case $1 in
    containerd) echo no_aufs,no_btrfs,no_devmapper,no_zfs ;;
    runc) echo seccomp ;;
  esac
}

go_in() {
  local folder=$1
  shift
  (cd "$CLUSTER/tools/$folder" && env GOFLAGS=-mod=readonly GOWORK=off GOOS= GOARCH= go "$@")
}

# The cache's key: all that decides what the programs of a module are.
module_key() {
  local folder=$1 file sources=("$CLUSTER/tools/$1"/go.* "$CLUSTER/tools/$1"/*.go)
  [[ $folder != pause ]] || sources=("$CLUSTER/pause/pause.c")
  {
    for file in "${sources[@]}"; do
      [[ ! -f $file ]] || cat "$file"
    done
    declare -f link_flags build_tags go_in build_program
    echo "$GO_VERSION"
  } | sha256sum | cut -c1-16
}

build_program() {
  local folder=$1 program=$2 package=$3 target=$4 cgo=0
  mkdir -p "$(dirname "$target")"
  if [[ $folder == pause ]]; then
    gcc -Os -static -s -Wall -Wextra -o "$target.new" "$CLUSTER/pause/pause.c"
  else
    [[ $folder != runc ]] || cgo=1
    CGO_ENABLED=$cgo go_in "$folder" build -trimpath -buildvcs=false -tags "$(build_tags "$folder")" \
      -ldflags "$(link_flags "$folder")" -o "$target.new" "$package"
  fi
  mv "$target.new" "$target"
}

ensure_go() {
  command -v go >/dev/null || die "needs Go (https://go.dev/dl/) to build the cluster's programs"
  GO_VERSION=$(go_in containerd version) || die "needs the Go version that cluster/tools/containerd/go.mod names, or a newer one"
  declare -gA KEYS=()
}

link_program() {
  local source=$1 target=$BIN/$2
  [[ ! $target -ef $source ]] || return 0
  # A copy is as good where the cache is on another file system; a new file, since the old one may be running.
  ln -f "$source" "$target" 2>/dev/null || { cp "$source" "$target.new" && mv "$target.new" "$target"; }
}

same_program() { [[ $1 -ef $2 ]] || cmp -s "$1" "$2"; }

# ensure_program FOLDER PROGRAM PACKAGE: the program is in BIN, built unless the cache has it.
ensure_program() {
  local folder=$1 program=$2 package=$3 cached
  [[ -n ${KEYS[$folder]:-} ]] || KEYS[$folder]=$(module_key "$folder")
  cached=$CACHE/$folder-${KEYS[$folder]}/bin/$program
  if [[ ! -x $cached ]]; then
    step "building $program ($folder $(version_of "$folder"))" "$LOG/build.log" build_program "$folder" "$program" "$package" "$cached"
  fi
  same_program "$cached" "$BIN/$program" || link_program "$cached" "$program"
}

ensure_programs() {
  local folder program package
  ensure_go
  mkdir -p "$BIN" "$LOG"
  while read -r folder program package; do
    ensure_program "$folder" "$program" "$package"
  done < <(programs)
}
