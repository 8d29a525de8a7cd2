# shellcheck shell=bash
# A bridge on the machine; the control plane and every node in a network namespace of its own on it.

NETNS_NAMES=/run/netns

# Sysctls that the cluster needs changed on the machine itself; their old values are kept for cluster/down.
host_sysctls() {
  cat <<END
net.ipv4.ip_forward 1
fs.inotify.max_user_instances 8192
fs.inotify.max_user_watches 1048576
END
}

# The kubelet writes these by itself.
kubelet_sysctls() { printf '%s\n' vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes; }

ensure_host_sysctls() {
  local name value
  if [[ ! -e $DATA/sysctls ]]; then
    { host_sysctls | cut -d' ' -f1 && kubelet_sysctls; } | while read -r name; do
      ! value=$(sysctl -n "$name") || echo "$name=$value"
    done >"$DATA/sysctls.new"
    mv "$DATA/sysctls.new" "$DATA/sysctls"
  fi
  host_sysctls | while read -r name value; do
    (($(sysctl -n "$name") >= value)) || sysctl -q -w "$name=$value"
  done
}

restore_host_sysctls() {
  [[ ! -s $DATA/sysctls ]] || sysctl -q -p "$DATA/sysctls" || true
}

# The size of a packet that leaves the machine whole.
mtu() {
  local device
  device=$(ip -4 route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
  cat "/sys/class/net/${device:-none}/mtu" 2>/dev/null || echo 1400
}

# Handles of the namespaces: a private mount, since a mount namespace can't be bound on a shared one.
ensure_handles() {
  mkdir -p "$NAMESPACES"
  if ! mountpoint -q "$NAMESPACES"; then
    mount -t tmpfs -o mode=0700,size=1m sparks-cluster "$NAMESPACES"
  fi
  mount --make-private "$NAMESPACES"
}

in_network() {
  local name=$1
  shift
  nsenter --net="$NAMESPACES/$name.net" -- "$@"
}

ensure_bridge() {
  ip link show "$BRIDGE" >/dev/null 2>&1 || ip link add "$BRIDGE" type bridge
  ip link set "$BRIDGE" mtu "$(mtu)" up
  ip addr replace "$HOST_IP/24" dev "$BRIDGE"
}

ensure_network_namespace() {
  local name=$1 address=$2 handle=$NAMESPACES/$1.net link=sparks-$1
  if ! in_network "$name" true 2>/dev/null; then
    remove_network_namespace "$name"
    : >"$handle"
    unshare --net="$handle" true
  fi
  # For people: `ip -n sparks-node1 addr`.
  mkdir -p "$NETNS_NAMES"
  ln -sfn "$handle" "$NETNS_NAMES/$link"
  if ! in_network "$name" ip link show eth0 >/dev/null 2>&1; then
    ip link del "$link" 2>/dev/null || true
    ip link add "$link" type veth peer name "${link}p"
    ip link set "${link}p" netns "$handle"
    in_network "$name" ip link set "${link}p" name eth0
  fi
  ip link set "$link" mtu "$(mtu)" master "$BRIDGE" up
  in_network "$name" ip link set lo up
  in_network "$name" ip link set eth0 mtu "$(mtu)" up
  in_network "$name" ip addr replace "$address/24" dev eth0
  in_network "$name" ip route replace default via "$HOST_IP"
  in_network "$name" sysctl -q -w net.ipv4.ip_forward=1
}

remove_network_namespace() {
  ip link del "sparks-$1" 2>/dev/null || true
  release_handle "$NAMESPACES/$1.net"
  rm -f "$NETNS_NAMES/sparks-$1"
}

release_handle() {
  [[ -e $1 ]] || return 0
  umount "$1" 2>/dev/null || umount -l "$1" 2>/dev/null || true
  rm -f "$1"
}

# Every node's pods are reached by way of that node; services by way of node 1, whose kube-proxy translates.
ensure_routes() {
  local n other
  for n in "$@"; do
    ip route replace "$(node_pod_cidr "$n")" via "$(node_ip "$n")"
    in_network control ip route replace "$(node_pod_cidr "$n")" via "$(node_ip "$n")"
    for other in "$@"; do
      [[ $n == "$other" ]] || in_network "node$n" ip route replace "$(node_pod_cidr "$other")" via "$(node_ip "$other")"
    done
  done
  ip route replace "$SERVICE_CIDR" via "$(node_ip 1)"
  in_network control ip route replace "$SERVICE_CIDR" via "$(node_ip 1)"
}

ensure_rule() {
  local table=$1 how=$2
  shift 2
  iptables -w -t "$table" -C "$@" 2>/dev/null || iptables -w -t "$table" "$how" "$@"
}

# What the cluster adds to the machine's packet filter is in chains of its own.
ensure_firewall() {
  local table
  for table in nat filter; do
    iptables -w -t $table -n -L "$CHAIN" >/dev/null 2>&1 || iptables -w -t $table -N "$CHAIN"
  done
  ensure_rule nat -A "$CHAIN" -s "$NODE_CIDR" ! -o "$BRIDGE" -j MASQUERADE
  ensure_rule nat -A "$CHAIN" -s "$POD_CIDR" ! -o "$BRIDGE" -j MASQUERADE
  ensure_rule nat -I POSTROUTING -j "$CHAIN"
  ensure_rule filter -A "$CHAIN" -i "$BRIDGE" -j ACCEPT
  ensure_rule filter -A "$CHAIN" -o "$BRIDGE" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
  ensure_rule filter -I FORWARD -j "$CHAIN"
}

remove_firewall() {
  command -v iptables >/dev/null || return 0
  while iptables -w -t nat -D POSTROUTING -j "$CHAIN" 2>/dev/null; do :; done
  while iptables -w -t filter -D FORWARD -j "$CHAIN" 2>/dev/null; do :; done
  local table
  for table in nat filter; do
    iptables -w -t $table -F "$CHAIN" 2>/dev/null || true
    iptables -w -t $table -X "$CHAIN" 2>/dev/null || true
  done
}

# ensure_network NODES…
ensure_network() {
  local n
  ensure_host_sysctls
  ensure_handles
  ensure_bridge
  ensure_firewall
  ensure_network_namespace control "$CONTROL_IP"
  for n in "$@"; do
    ensure_network_namespace "node$n" "$(node_ip "$n")"
  done
  ensure_routes "$@"
}

# A listener and no packet filter: with route_localnet pods could reach what listens on the machine's loopback.
ensure_host_ports() {
  local port
  for port in "${HOST_PORTS[@]}"; do
    # An end of one direction is passed on, and the other one goes on for as long as it likes.
    ensure_daemon "port-$port" ports socat -b 131072 -t 31536000 \
      "TCP4-LISTEN:$port,bind=127.0.0.1,reuseaddr,fork,nodelay" "TCP4:$(node_ip 1):$port,nodelay"
    wait_until 2 daemon_listens "port-$port" "$port" ||
      say "  port $port of 127.0.0.1 is taken: nothing of the cluster is there ($LOG/port-$port.log)"
  done
}

# daemon_listens NAME PORT
daemon_listens() {
  daemon_pid "$1" ports >/dev/null && (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null
}

remove_network() {
  local n
  remove_network_namespace control
  for ((n = 1; n <= MAX_NODES; n++)); do
    remove_network_namespace "node$n"
    release_handle "$NAMESPACES/node$n.mnt"
  done
  ip link del "$BRIDGE" 2>/dev/null || true
  remove_firewall
  rmdir "$NETNS_NAMES" 2>/dev/null || true
}
