# shellcheck shell=bash
# etcd, kube-apiserver, kube-controller-manager and kube-scheduler, in the network namespace "control".

# More memory for less processor time: collecting garbage at Go's default pace is a sixth of the API server's work.
control_daemon() {
  local name=$1
  shift
  ensure_daemon "$name" control nsenter --net="$NAMESPACES/control.net" -- env GOGC=400 "$BIN/$name" "$@"
}

# Not synced to the disk: a crash of the machine may lose the cluster, which can be made again.
ensure_etcd() {
  control_daemon etcd \
    --name=sparks \
    --data-dir="$DATA/etcd" \
    --unsafe-no-fsync \
    --listen-client-urls=http://127.0.0.1:2379 \
    --advertise-client-urls=http://127.0.0.1:2379 \
    --listen-peer-urls=http://127.0.0.1:2380 \
    --initial-advertise-peer-urls=http://127.0.0.1:2380 \
    --initial-cluster=sparks=http://127.0.0.1:2380 \
    --log-level=warn
}

# Webhooks and aggregated APIs are reached at their pods' addresses, as nothing translates service addresses in this namespace.
ensure_apiserver() {
  control_daemon kube-apiserver \
    --etcd-servers=http://127.0.0.1:2379 \
    --advertise-address="$CONTROL_IP" \
    --service-cluster-ip-range="$SERVICE_CIDR" \
    --client-ca-file="$PKI/ca.crt" \
    --tls-cert-file="$PKI/apiserver.crt" \
    --tls-private-key-file="$PKI/apiserver.key" \
    --kubelet-certificate-authority="$PKI/ca.crt" \
    --kubelet-client-certificate="$PKI/apiserver-kubelet-client.crt" \
    --kubelet-client-key="$PKI/apiserver-kubelet-client.key" \
    --kubelet-preferred-address-types=InternalIP \
    --requestheader-client-ca-file="$PKI/front-proxy-ca.crt" \
    --requestheader-allowed-names=front-proxy-client \
    --requestheader-username-headers=X-Remote-User \
    --requestheader-group-headers=X-Remote-Group \
    --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --proxy-client-cert-file="$PKI/front-proxy-client.crt" \
    --proxy-client-key-file="$PKI/front-proxy-client.key" \
    --enable-aggregator-routing=true \
    --service-account-issuer="https://kubernetes.default.svc.$DOMAIN" \
    --service-account-key-file="$PKI/service-account.pub" \
    --service-account-signing-key-file="$PKI/service-account.key" \
    --authorization-mode=Node,RBAC \
    --enable-admission-plugins=NodeRestriction \
    --feature-gates=ImageVolume=true,UserNamespacesSupport=true \
    --allow-privileged=true \
    --max-requests-inflight=1000 \
    --max-mutating-requests-inflight=500 \
    --profiling=false
  wait_ready 120 kube-apiserver control kubectl get --raw /readyz
}

ensure_controller_manager() {
  local kubeconfig=$STATE/control/kube-controller-manager.kubeconfig
  control_daemon kube-controller-manager \
    --kubeconfig="$kubeconfig" \
    --authentication-kubeconfig="$kubeconfig" \
    --authorization-kubeconfig="$kubeconfig" \
    --bind-address=127.0.0.1 \
    --leader-elect=false \
    --use-service-account-credentials=true \
    --service-account-private-key-file="$PKI/service-account.key" \
    --root-ca-file="$PKI/ca.crt" \
    --cluster-signing-cert-file="$PKI/ca.crt" \
    --cluster-signing-key-file="$PKI/ca.key" \
    --flex-volume-plugin-dir="$DATA/volume-plugins" \
    --node-monitor-period=2s \
    --node-monitor-grace-period=20s \
    --kube-api-qps=500 \
    --kube-api-burst=1000 \
    --concurrent-deployment-syncs=10 \
    --concurrent-replicaset-syncs=10 \
    --concurrent-statefulset-syncs=10 \
    --concurrent-job-syncs=10 \
    --concurrent-endpoint-syncs=10 \
    --concurrent-service-endpoint-syncs=10 \
    --concurrent-namespace-syncs=20 \
    --profiling=false
}

ensure_scheduler() {
  local config=$STATE/control/kube-scheduler.yaml kubeconfig=$STATE/control/kube-scheduler.kubeconfig
  write_file "$config" <<END
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
clientConnection: {kubeconfig: $kubeconfig, qps: 500, burst: 1000}
leaderElection: {leaderElect: false}
podInitialBackoffSeconds: 1
podMaxBackoffSeconds: 5
enableProfiling: false
END
  control_daemon kube-scheduler \
    --config="$config" \
    --authentication-kubeconfig="$kubeconfig" \
    --authorization-kubeconfig="$kubeconfig" \
    --bind-address=127.0.0.1
}

ensure_control_plane() {
  ensure_etcd
  ensure_apiserver
  ensure_controller_manager
  ensure_scheduler
}
