# shellcheck shell=bash
# Daemons and cgroups. All that the cluster runs is in a cgroup below "sparks-cluster", so that its processes are found, and
# only they, even when the files that name them are gone.

cgroup_version() {
  if [[ $(stat -f -c %T /sys/fs/cgroup) == cgroup2fs ]]; then echo 2; else echo 1; fi
}

# The mounted hierarchies: one on cgroup v2, one for each controller on v1.
cgroup_roots() {
  local root
  if [[ $(cgroup_version) == 2 ]]; then
    echo /sys/fs/cgroup
    return
  fi
  for root in /sys/fs/cgroup/*; do
    [[ -L $root || ! -e $root/cgroup.procs ]] || echo "$root"
  done
}

# The hierarchy that daemons are marked in. On v1 one is enough, and they stay in the memory cgroup of whoever started them.
daemon_cgroup_root() {
  local root
  for root in /sys/fs/cgroup/pids /sys/fs/cgroup/freezer /sys/fs/cgroup/systemd; do
    if [[ $(cgroup_version) == 1 && -e $root/cgroup.procs ]]; then
      echo "$root"
      return
    fi
  done
  cgroup_roots | head -n 1
}

# make_cgroup PATH: in every hierarchy, ready for the kubelet to put pods below it.
make_cgroup() {
  local root
  while read -r root; do
    make_cgroup_in "$root" "$CGROUP_NAME/$1"
    give_processors "$root" "$CGROUP_NAME" "$CGROUP_NAME/$1"
  done < <(cgroup_roots)
}

# give_processors ROOT PATH…: what the kubelet gives to all pods together. On v1 a new cgroup weighs as much as one thread of a
# daemon, so that a busy API server would starve the controller and the node agent.
give_processors() {
  local root=$1 path
  shift
  for path in "$@"; do
    [[ ! -e $root/$path/cpu.shares ]] || echo $((1024 * $(nproc))) >"$root/$path/cpu.shares"
  done
}

make_cgroup_in() {
  local dir=$1 part parts
  IFS=/ read -ra parts <<<"$2"
  for part in "${parts[@]}"; do
    enable_controllers "$dir"
    mkdir -p "$dir/$part"
    # On v1 a new cpuset is empty and takes no process until it is filled.
    if [[ -e $dir/$part/cpuset.cpus && -w $dir/$part/cpuset.cpus && $(cgroup_version) == 1 ]]; then
      cat "$dir/cpuset.cpus" >"$dir/$part/cpuset.cpus"
      cat "$dir/cpuset.mems" >"$dir/$part/cpuset.mems"
    fi
    dir=$dir/$part
  done
}

enable_controllers() {
  local controller
  [[ $(cgroup_version) == 2 && -s $1/cgroup.controllers ]] || return 0
  for controller in $(<"$1/cgroup.controllers"); do
    case $controller in
      cpuset | cpu | io | memory | hugetlb | pids)
        grep -qw "$controller" "$1/cgroup.subtree_control" || echo "+$controller" >"$1/cgroup.subtree_control"
        ;;
    esac
  done
}

# cgroup_dirs [PATH]: the directories of one of our cgroups, in all hierarchies.
cgroup_dirs() {
  local root
  while read -r root; do
    [[ ! -d $root/$CGROUP_NAME${1:+/$1} ]] || echo "$root/$CGROUP_NAME${1:+/$1}"
  done < <(cgroup_roots)
}

cgroup_processes() {
  local dirs
  mapfile -t dirs < <(cgroup_dirs "$@")
  ((${#dirs[@]})) || return 0
  find "${dirs[@]}" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -un || true
}

# kill_cgroup [PATH]: ends everything in it and below it, and removes it.
kill_cgroup() {
  local processes end=$(($(now_ms) + 20000)) dirs
  while mapfile -t processes < <(cgroup_processes "$@") && ((${#processes[@]})); do
    kill -KILL "${processes[@]}" 2>/dev/null || true
    (($(now_ms) < end)) || die "can't end process ${processes[0]} ($(tr '\0' ' ' <"/proc/${processes[0]}/cmdline" 2>/dev/null))"
    sleep 0.05
  done
  mapfile -t dirs < <(cgroup_dirs "$@")
  ((${#dirs[@]})) || return 0
  wait_until 10 remove_cgroup_dirs "${dirs[@]}" || die "can't remove the cgroup ${dirs[0]}"
}

remove_cgroup_dirs() {
  local dir
  for dir in "$@"; do
    [[ ! -d $dir ]] || find "$dir" -depth -type d -exec rmdir {} + || return 1
  done
}

pidfile() { echo "$STATE/pids/$1"; }

# daemon_pid NAME CGROUP: prints the daemon's process id if it runs.
daemon_pid() {
  local pid
  pid=$(cat "$(pidfile "$1")" 2>/dev/null) || return 1
  [[ -n $pid ]] && grep -qs "/$CGROUP_NAME/$2\$" "/proc/$pid/cgroup" && [[ ! $(</proc/"$pid"/stat) =~ ^[0-9]+\ \(.*\)\ [ZX] ]] && echo "$pid"
} 2>/dev/null

# What a daemon was started with: its arguments, and the state of the programs, configurations and namespaces that they name.
fingerprint() {
  local argument file
  for argument in "$@"; do
    printf '%s\n' "$argument"
    file=${argument#*=}
    case $file in
      "$REPO"/*) [[ ! -f $file ]] || stat -L -c '%i %s %Y' "$file" ;;
      "$NAMESPACES"/*) stat -L -c %i "$file" ;;
    esac
  done | sha256sum
}

# ensure_daemon NAME CGROUP COMMAND…: starts it unless it runs, with the same arguments and configuration.
ensure_daemon() {
  local name=$1 cgroup=$2 print
  shift 2
  print=$(fingerprint "$@")
  if daemon_pid "$name" "$cgroup" >/dev/null; then
    [[ $(cat "$STATE/pids/$name.started-with" 2>/dev/null) != "$print" ]] || return 0
    stop_daemon "$name" "$cgroup"
  fi
  start_daemon "$name" "$cgroup" "$@"
  printf '%s\n' "$print" >"$STATE/pids/$name.started-with"
}

start_daemon() {
  local name=$1 cgroup root
  root=$(daemon_cgroup_root)
  cgroup=$root/$CGROUP_NAME/$2
  shift 2
  make_cgroup_in "$root" "${cgroup#"$root"/}"
  mkdir -p "$LOG" "$STATE/pids"
  [[ ! -f $LOG/$name.log ]] || mv "$LOG/$name.log" "$LOG/$name.log.1"
  # The process joins its cgroup before it does anything else: whatever happens later, cluster/down finds it.
  # shellcheck disable=SC2016
  setsid nohup bash -c '
    echo $$ >"$1/cgroup.procs" && echo $$ >"$2" || exit 1
    shift 2
    ulimit -n "$(ulimit -H -n)"
    exec "$@"' daemon "$cgroup" "$(pidfile "$name")" "$@" >"$LOG/$name.log" 2>&1 </dev/null 3>&- 9>&- &
  disown
  wait_until 5 daemon_pid "$name" "${cgroup#"$root/$CGROUP_NAME/"}" || die "$name did not start; what it said is in $LOG/$name.log"
}

stop_daemon() {
  local pid
  pid=$(daemon_pid "$1" "$2") || return 0
  kill -TERM "$pid" 2>/dev/null || true
  wait_until 2 daemon_gone "$1" "$2" || kill -KILL "$pid" 2>/dev/null || true
}

daemon_gone() { ! daemon_pid "$1" "$2" >/dev/null; }

# wait_ready SECONDS NAME CGROUP COMMAND…: waits for the command to succeed while the daemon lives.
wait_ready() {
  local end=$(($(now_ms) + $1 * 1000)) name=$2 cgroup=$3
  shift 3
  until "$@" >/dev/null 2>&1; do
    daemon_pid "$name" "$cgroup" >/dev/null || die "$name ended right after its start; what it said is in $LOG/$name.log"
    (($(now_ms) < end)) || die "$name is not ready in time; what it said is in $LOG/$name.log"
    sleep 0.1
  done
}
