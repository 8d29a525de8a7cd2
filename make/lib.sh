# shellcheck shell=bash
# Sourced by the scripts of this folder. Leaves the working directory at the root of the repository.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export PATH=$PWD/build/bin:$PATH
export LOCAL_KUBECONFIG=$PWD/build/cluster/kubeconfig
export NAMESPACE=sparks-system
MUSL_TARGET=$(uname -m)-unknown-linux-musl
export MUSL_TARGET

say() { echo "sparks: $*" >&2; }
die() { say "$*"; exit 1; }
has() { command -v "$1" >/dev/null; }

# foreign_cluster: whether the kubeconfig that was named is another than the local cluster's.
foreign_cluster() {
  [ -n "${KUBECONFIG:-}" ] && [ "$(readlink -m "$KUBECONFIG")" != "$(readlink -m "$LOCAL_KUBECONFIG")" ]
}

# timed TEXT COMMAND...: says how long it took when that was long enough to notice.
timed() {
  local text=$1 start=$SECONDS
  shift
  "$@"
  local took=$((SECONDS - start))
  [ "$took" -lt 2 ] || say "$text: $took s"
}
