# shellcheck shell=bash
# Where things are and which addresses they have. Sourced by every command of this folder.
# shellcheck disable=SC2034  # used by the files that source this one

CLUSTER=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
REPO=$(dirname "$CLUSTER")
COMMAND=$(basename "$0")

BIN=$REPO/build/bin
STATE=$REPO/build/cluster
LOG=$STATE/log
PKI=$STATE/pki
IMAGES=$STATE/images
KUBECONFIG_FILE=$STATE/kubeconfig
CACHE=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/sparks/cluster

# Fixed paths: a later run, also one from another checkout, finds here what an earlier one left.
RUN=/run/sparks-cluster
DATA=/var/lib/sparks-cluster
NAMESPACES=$RUN/ns
CGROUP_NAME=sparks-cluster

BRIDGE=sparks0
CHAIN=SPARKS-CLUSTER
NODE_NET=10.210.0
NODE_CIDR=$NODE_NET.0/24
HOST_IP=$NODE_NET.1
CONTROL_IP=$NODE_NET.10
POD_NET=10.211
POD_CIDR=$POD_NET.0.0/16
SERVICE_CIDR=10.212.0.0/16
SERVICE_IP=10.212.0.1
DNS_IP=10.212.0.10
DOMAIN=cluster.local
SERVER=https://$CONTROL_IP:6443
# Ports of the machine's loopback that lead to the node ports of the same number.
HOST_PORTS=(30022 30080)
MAX_NODES=9

PAUSE_IMAGE=localhost/sparks-cluster/pause:1

export PATH=$BIN:$PATH:/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin
export KUBECONFIG=$KUBECONFIG_FILE

node_ip() { echo "$NODE_NET.$((10 + $1))"; }

# A /22 for each node: with 250 pods and the addresses of those just deleted, a /24 runs out.
node_pod_cidr() { echo "$POD_NET.$((4 * $1)).0/22"; }

# The nodes that were ever started, running or not.
existing_nodes() {
  local n
  for ((n = 1; n <= MAX_NODES; n++)); do
    [[ ! -d $DATA/node$n ]] || echo "$n"
  done
}
