# shellcheck shell=bash
# What runs in the cluster itself: its DNS.

ensure_dns() {
  sed -e "s|@IMAGE@|$(coredns_image)|" -e "s|@DNS_IP@|$DNS_IP|" -e "s|@DOMAIN@|$DOMAIN|" "$CLUSTER/addons/coredns.yaml" |
    kubectl apply -f -
}

dns_is_ready() {
  kubectl -n kube-system rollout status deployment/coredns --timeout=1s
}

wait_for_dns() {
  wait_until 120 dns_is_ready ||
    die "the cluster's DNS is not ready in time; kubectl -n kube-system describe pod -l k8s-app=kube-dns tells why, or $LOG/node1-kubelet.log"
}
