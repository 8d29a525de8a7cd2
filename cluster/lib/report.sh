# shellcheck shell=bash
# What the person at the terminal sees: one line for each step, one sentence for a failure. Details go to the logs.

exec 3>&2
IN_STEP=
STEP_PID=

say() { printf '%s\n' "$*" >&3; }

# A step runs in a subshell; 3 tells its parent that the sentence was said.
die() {
  [[ ! -t 3 ]] || printf '\r\033[K' >&3
  say "cluster/$COMMAND: $*"
  if [[ -n $IN_STEP ]]; then exit 3; fi
  exit 1
}

now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

seconds_since() {
  local ms=$(($(now_ms) - $1))
  printf '%d.%d s' $((ms / 1000)) $((ms % 1000 / 100))
}

show_progress() {
  local title=$1 start=$2 pid=$3 next=15
  while kill -0 "$pid" 2>/dev/null; do
    if [[ -t 3 ]]; then
      printf '\r\033[K  … %s (%s)' "$title" "$(seconds_since "$start")" >&3
    elif (($(now_ms) - start >= next * 1000)); then
      say "  … $title ($(seconds_since "$start"))"
      next=$((next + 15))
    fi
    sleep 0.1
  done
  [[ ! -t 3 ]] || printf '\r\033[K' >&3
}

# step TITLE LOG FUNCTION ARGUMENTS…: runs the function with its output in the log.
step() {
  local title=$1 log=$2 start result=0 last
  shift 2
  start=$(now_ms)
  mkdir -p "$(dirname "$log")"
  # A job of its own process group, so that Ctrl-C ends all of it; and not in a condition, which would switch off "set -e".
  set -m
  (
    set +m
    IN_STEP=1
    "$@"
  ) >>"$log" 2>&1 </dev/null &
  STEP_PID=$!
  set +m
  show_progress "$title" "$start" "$STEP_PID"
  wait "$STEP_PID" || result=$?
  STEP_PID=
  case $result in
    0) say "  ✓ $title ($(seconds_since "$start"))" ;;
    3) exit 1 ;;
    *)
      last=$(grep -v "^\s*$" "$log" | tail -n 1)
      die "\"$title\" failed: ${last:-no reason given} (log: $log)"
      ;;
  esac
}

on_interrupt() {
  [[ -z $STEP_PID ]] || kill -TERM -- "-$STEP_PID" 2>/dev/null || true
  die "interrupted; run it again to go on, or cluster/down to remove what there is"
}
trap on_interrupt INT TERM

# wait_until SECONDS COMMAND…
wait_until() {
  local end=$(($(now_ms) + $1 * 1000))
  shift
  until "$@" >/dev/null 2>&1; do
    (($(now_ms) < end)) || return 1
    sleep 0.1
  done
}

require_root() {
  ((EUID == 0)) || die "needs root for namespaces, mounts and cgroups; run it with sudo"
}

# One command of this folder at a time on the machine. The lock is on a directory, so it leaves nothing behind.
take_lock() {
  exec 9</var/lib
  flock -n 9 && return
  say "waiting for another cluster command to end"
  flock 9
}

# write_file PATH: standard input becomes the file, which keeps its time stamp when nothing changed.
write_file() {
  local path=$1
  mkdir -p "$(dirname "$path")"
  cat >"$path.new"
  if cmp -s "$path.new" "$path"; then
    rm "$path.new"
  else
    mv "$path.new" "$path"
  fi
}
