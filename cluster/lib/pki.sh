# shellcheck shell=bash
# Keys, certificates and kubeconfigs: a certificate authority for the cluster and one for the front proxy (aggregated APIs).

DAYS=3650

new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }

# A file counts only when it is complete: keys and certificates are renamed into place, the certificate last.
ensure_ca() {
  local name=$1
  [[ ! -s $PKI/$name.crt ]] || return 0
  new_key "$PKI/$name.key"
  openssl req -x509 -new -key "$PKI/$name.key" -sha256 -days $DAYS -subj "/CN=sparks-cluster-$name" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,digitalSignature -out "$PKI/$name.crt.new"
  mv "$PKI/$name.crt.new" "$PKI/$name.crt"
}

# ensure_certificate NAME CA SUBJECT USAGE [ALTERNATIVE-NAMES]
ensure_certificate() {
  local name=$1 ca=$2 subject=$3 usage=$4 names=${5:-}
  [[ ! -s $PKI/$name.crt ]] || return 0
  new_key "$PKI/$name.key"
  openssl req -new -key "$PKI/$name.key" -subj "$subject" -out "$PKI/$name.csr"
  {
    printf '%s\n' "extendedKeyUsage=$usage" "keyUsage=critical,digitalSignature"
    [[ -z $names ]] || printf 'subjectAltName=%s\n' "$names"
  } >"$PKI/$name.ext"
  openssl x509 -req -in "$PKI/$name.csr" -CA "$PKI/$ca.crt" -CAkey "$PKI/$ca.key" -sha256 -days $DAYS \
    -set_serial "0x$(openssl rand -hex 16)" -extfile "$PKI/$name.ext" -out "$PKI/$name.crt.new"
  rm "$PKI/$name.csr" "$PKI/$name.ext"
  mv "$PKI/$name.crt.new" "$PKI/$name.crt"
}

# write_kubeconfig PATH CERTIFICATE
write_kubeconfig() {
  (umask 077 && write_file "$1") <<END
apiVersion: v1
kind: Config
clusters:
- name: sparks-cluster
  cluster:
    server: $SERVER
    certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")
users:
- name: $2
  user:
    client-certificate-data: $(base64 -w0 "$PKI/$2.crt")
    client-key-data: $(base64 -w0 "$PKI/$2.key")
contexts:
- name: sparks-cluster
  context:
    cluster: sparks-cluster
    user: $2
current-context: sparks-cluster
END
}

ensure_control_pki() {
  local names=DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.$DOMAIN
  mkdir -p "$PKI"
  chmod 700 "$PKI"
  ensure_ca ca
  ensure_ca front-proxy-ca
  if [[ ! -s $PKI/service-account.pub ]]; then
    new_key "$PKI/service-account.key"
    openssl pkey -in "$PKI/service-account.key" -pubout -out "$PKI/service-account.pub.new"
    mv "$PKI/service-account.pub.new" "$PKI/service-account.pub"
  fi
  ensure_certificate apiserver ca /CN=kube-apiserver serverAuth \
    "$names,DNS:localhost,IP:127.0.0.1,IP:$SERVICE_IP,IP:$CONTROL_IP"
  ensure_certificate apiserver-kubelet-client ca /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
  ensure_certificate front-proxy-client front-proxy-ca /CN=front-proxy-client clientAuth
  ensure_certificate admin ca /O=system:masters/CN=admin clientAuth
  ensure_certificate kube-controller-manager ca /CN=system:kube-controller-manager clientAuth
  ensure_certificate kube-scheduler ca /CN=system:kube-scheduler clientAuth
  ensure_certificate kube-proxy ca /CN=system:kube-proxy clientAuth
  write_kubeconfig "$KUBECONFIG_FILE" admin
  [[ -z ${SUDO_UID:-} ]] || chown "$SUDO_UID:${SUDO_GID:-0}" "$KUBECONFIG_FILE"
  write_kubeconfig "$STATE/control/kube-controller-manager.kubeconfig" kube-controller-manager
  write_kubeconfig "$STATE/control/kube-scheduler.kubeconfig" kube-scheduler
}

# ensure_node_pki NUMBER: the kubelet's identity, and its serving certificate.
ensure_node_pki() {
  local name=node$1
  ensure_certificate "$name" ca "/O=system:nodes/CN=system:node:$name" clientAuth
  ensure_certificate "$name-serving" ca "/O=system:nodes/CN=system:node:$name" serverAuth "DNS:$name,IP:$(node_ip "$1")"
  write_kubeconfig "$STATE/$name/kubelet.kubeconfig" "$name"
  write_kubeconfig "$STATE/$name/kube-proxy.kubeconfig" kube-proxy
}
