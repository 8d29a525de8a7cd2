# shellcheck shell=bash
# Debian's packages that the cluster needs, installed where the machine lacks them.

# Debian package, and a file that tells whether it is there.
packages() {
  cat <<'END'
iproute2 /sbin/ip
iptables /usr/sbin/iptables
conntrack /usr/sbin/conntrack
util-linux /usr/bin/nsenter
mount /bin/mount
procps /sbin/sysctl
openssl /usr/bin/openssl
gcc /usr/bin/gcc
libc6-dev /usr/include/stdio.h
pkg-config /usr/bin/pkg-config
libseccomp-dev /usr/include/seccomp.h
btrfs-progs /sbin/mkfs.btrfs
mmdebstrap /usr/bin/mmdebstrap
socat /usr/bin/socat
ca-certificates /etc/ssl/certs/ca-certificates.crt
END
}

missing_packages() {
  local package file
  while read -r package file; do
    [[ -e $file || -e /usr$file ]] || echo "$package"
  done < <(packages)
}

install_packages() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get update
  apt-get install -y --no-install-recommends "$@"
}

ensure_packages() {
  local missing
  mapfile -t missing < <(missing_packages)
  ((${#missing[@]})) || return 0
  command -v apt-get >/dev/null || die "needs ${missing[*]} (names of Debian's packages), and there is no apt-get to install them"
  step "installing ${missing[*]}" "$LOG/packages.log" install_packages "${missing[@]}"
}
