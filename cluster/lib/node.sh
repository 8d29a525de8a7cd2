# shellcheck shell=bash
# A node: containerd, kubelet and kube-proxy in a network namespace and a mount namespace of its own. In the mount namespace
# the usual paths (/var/lib/kubelet, /run/containerd, …) are the node's own directories, so that two nodes don't meet, what a
# pod mounts never shows on the machine, and all of it is gone with the namespace.

# The usual path, and where it is kept: below DATA (survives a restart of the node) or below RUN (does not).
node_directories() {
  cat <<END
/var/lib/kubelet $DATA/$1/kubelet
/var/lib/containerd $DATA/$1/containerd
/var/lib/cni $DATA/$1/cni
/var/lib/sparks $DATA/$1/sparks
/var/log/pods $DATA/$1/log/pods
/var/log/containers $DATA/$1/log/containers
/run/containerd $RUN/$1/containerd
/run/sparks $RUN/$1/sparks
END
}

in_node() {
  local name=$1
  shift
  nsenter --net="$NAMESPACES/$name.net" --mount="$NAMESPACES/$name.mnt" -- "$@"
}

# Paths that the machine lacks are made as mount points, and removed by cluster/down while they are empty.
ensure_mount_points() {
  local target source
  while read -r target source; do
    mkdir -p "$source"
    if [[ ! -d $target ]]; then
      mkdir -p "$target"
      echo "$target" >>"$DATA/mount-points"
    fi
  done < <(node_directories "$1")
}

remove_mount_points() {
  local target
  [[ -e $DATA/mount-points ]] || return 0
  while read -r target; do
    rmdir "$target" 2>/dev/null || true
  done < <(sort -u "$DATA/mount-points")
}

ensure_mount_namespace() {
  local name=$1 handle=$NAMESPACES/$1.mnt
  ! in_node "$name" true 2>/dev/null || return 0
  # Without its namespace a node is dead, whatever of it still runs.
  kill_cgroup "$name"
  release_handle "$handle"
  rm -rf "${RUN:?}/$name"
  ensure_mount_points "$name"
  : >"$handle"
  node_directories "$name" >"$STATE/$name/mounts"
  # Mounts of the machine come in and none go out; among the node's containers they are shared.
  # shellcheck disable=SC2016
  unshare --mount="$handle" --propagation slave bash -euc '
    umount -l "$1"
    mount --make-rshared /
    while read -r target source; do mount --bind "$source" "$target"; done <"$2"' mounts "$NAMESPACES" "$STATE/$name/mounts" || {
    release_handle "$handle"
    return 1
  }
}

node_daemon() {
  local name=$1 daemon=$2
  shift 2
  ensure_daemon "$name-$daemon" "$name/daemons" \
    nsenter --net="$NAMESPACES/$name.net" --mount="$NAMESPACES/$name.mnt" -- "$BIN/$daemon" "$@"
}

# Bit 24 of the effective capabilities is CAP_SYS_RESOURCE, without which oom_score_adj can't be lowered.
lacks_sys_resource() {
  local mask
  mask=$(sed -n 's/^CapEff:\s*//p' /proc/self/status)
  (((0x$mask >> 24 & 1) == 0))
}

# Point-to-point links, and not a bridge: traffic between pods of a node passes its packet filter without br_netfilter.
write_cni_config() {
  write_file "$STATE/$1/cni/10-sparks.conflist" <<END
{
  "cniVersion": "1.0.0",
  "name": "sparks",
  "plugins": [
    {
      "type": "ptp",
      "mtu": $(mtu),
      "ipMasq": false,
      "ipam": {
        "type": "host-local",
        "dataDir": "$RUN/$1/ipam",
        "ranges": [[{"subnet": "$(node_pod_cidr "${1#node}")"}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}
  ]
}
END
}

# By default containerd asks every shim for its statistics once a second: with 150 pods it and they take up to a quarter of two processors, for
# numbers that the kubelet reads every ten seconds.
write_containerd_config() {
  local restrict=false
  ! lacks_sys_resource || restrict=true
  write_file "$STATE/$1/containerd.toml" <<END
version = 4
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
address = "/run/containerd/containerd.sock"

[debug]
level = "warn"

[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"

[plugins."io.containerd.nri.v1.nri"]
disable = true

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "$PAUSE_IMAGE"

[plugins."io.containerd.cri.v1.runtime"]
stats_collect_period = "10s"
device_ownership_from_security_context = true
netns_mounts_under_state_dir = true
restrict_oom_score_adj = $restrict

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["$BIN"]
conf_dir = "$STATE/$1/cni"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "$BIN/runc"
SystemdCgroup = false
END
}

# A stub resolver on loopback is out of reach for pods; systemd keeps the real servers in a file beside it.
resolv_conf() {
  local real=/run/systemd/resolve/resolv.conf
  if grep -qE '^nameserver\s+127\.' /etc/resolv.conf && [[ -s $real ]]; then echo $real; else echo /etc/resolv.conf; fi
}

write_kubelet_config() {
  write_file "$STATE/$1/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $PKI/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: $PKI/$1-serving.crt
tlsPrivateKeyFile: $PKI/$1-serving.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP_NAME/$1
failCgroupV1: false
failSwapOn: false
featureGates: {ImageVolume: true, UserNamespacesSupport: true}
clusterDNS: [$DNS_IP]
clusterDomain: $DOMAIN
resolvConf: $(resolv_conf)
maxPods: 250
serializeImagePulls: false
registryPullQPS: 0
kubeAPIQPS: 500
kubeAPIBurst: 1000
eventRecordQPS: 200
eventBurst: 400
nodeStatusUpdateFrequency: 10s
nodeStatusReportFrequency: 1m
nodeLeaseDurationSeconds: 20
# Tests kill the same container again and again; the default pause before the next start grows to five minutes.
crashLoopBackOff: {maxContainerRestartPeriod: 5s}
# The machine's disk is shared with everything else on it: neither pods nor images are thrown out because it fills up.
evictionHard: {memory.available: 0%, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%, imagefs.inodesFree: 0%, pid.available: 0%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
volumePluginDir: /var/lib/kubelet/volume-plugins
volumeStatsAggPeriod: 5m
makeIPTablesUtilChains: false
enableProfilingHandler: false
END
}

# The limits of connection tracking belong to the machine; the null values leave them alone.
write_proxy_config() {
  write_file "$STATE/$1/kube-proxy.yaml" <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $STATE/$1/kube-proxy.kubeconfig, qps: 100, burst: 200}
hostnameOverride: $1
bindAddress: 0.0.0.0
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
mode: iptables
clusterCIDR: $POD_CIDR
detectLocalMode: ClusterCIDR
iptables: {minSyncPeriod: 100ms, syncPeriod: 60s}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
END
}

containerd_answers() { ctr_in "$1" version; }

# ctr_in NODE ARGUMENTS…: containerd's own client, with the images and containers of Kubernetes.
ctr_in() {
  local name=$1
  shift
  "$BIN/ctr" --address "$RUN/$name/containerd/containerd.sock" --namespace k8s.io "$@"
}

# ensure_runtime NUMBER: a containerd that is ready to take images.
ensure_runtime() {
  local name=node$1
  mkdir -p "$STATE/$name" "$DATA/$name"
  ensure_mount_namespace "$name"
  make_cgroup "$name"
  write_cni_config "$name"
  write_containerd_config "$name"
  node_daemon "$name" containerd --config="$STATE/$name/containerd.toml"
  wait_ready 60 "$name-containerd" "$name/daemons" containerd_answers "$name"
}

# ensure_kubelet NUMBER
ensure_kubelet() {
  local name=node$1
  ensure_node_pki "$1"
  write_kubelet_config "$name"
  write_proxy_config "$name"
  node_daemon "$name" kube-proxy --config="$STATE/$name/kube-proxy.yaml"
  node_daemon "$name" kubelet \
    --config="$STATE/$name/kubelet.yaml" \
    --kubeconfig="$STATE/$name/kubelet.kubeconfig" \
    --hostname-override="$name" \
    --node-ip="$(node_ip "$1")"
}

# Its state alone may be what it last said before it was stopped.
node_is_ready() {
  kubectl get --raw "/api/v1/nodes/$1/proxy/healthz" &&
    [[ $(kubectl get node "$1" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}') == True ]]
}

wait_for_node() {
  local name=node$1 cidr
  wait_ready 90 "$name-kubelet" "$name/daemons" node_is_ready "$name"
  cidr=$(node_pod_cidr "$1")
  [[ $(kubectl get node "$name" -o 'jsonpath={.spec.podCIDR}') == "$cidr" ]] ||
    kubectl patch node "$name" --patch "{\"spec\": {\"podCIDR\": \"$cidr\", \"podCIDRs\": [\"$cidr\"]}}"
}

ensure_node() {
  ensure_runtime "$1"
  load_base_images "node$1"
  ensure_kubelet "$1"
}

# What a power cut would do to it; its disk stays.
stop_node() {
  kill_cgroup "node$1"
  release_handle "$NAMESPACES/node$1.mnt"
  remove_network_namespace "node$1"
  detach_loops "$DATA/node$1"
  rm -rf "${RUN:?}/node$1"
}

node_runs() { daemon_pid "node$1-containerd" "node$1/daemons" >/dev/null; }
