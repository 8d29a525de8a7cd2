# shellcheck shell=bash
# Taking it away. All that is found here is ours by its fixed place or name, so no record of the earlier run is needed.

# A number that is in the cluster's data and in this checkout's build folder: where they differ, the data is another's.
cluster_is_ours() {
  [[ -s $DATA/id && -s $STATE/id ]] && cmp -s "$DATA/id" "$STATE/id"
}

anything_left() {
  [[ -e $RUN || -e $DATA || -n $(cgroup_dirs) ]] || ip link show "$BRIDGE" >/dev/null 2>&1
}

claim_machine() {
  mkdir -p "$STATE" "$DATA"
  chmod 700 "$DATA"
  cat /proc/sys/kernel/random/uuid >"$STATE/id"
  cp "$STATE/id" "$DATA/id"
}

# A restart of the machine ends every process, mount and namespace, but /run may be on the disk.
forget_earlier_boot() {
  local boot
  boot=$(</proc/sys/kernel/random/boot_id)
  if [[ -e $RUN && $(cat "$RUN/boot" 2>/dev/null) != "$boot" ]]; then
    kill_cgroup
    unmount_below "$RUN"
    rm -rf "$RUN"
  fi
  mkdir -p "$RUN"
  echo "$boot" >"$RUN/boot"
}

mounts_below() {
  awk -v root="$1/" '{ target = $5; gsub(/\\040/, " ", target); if (index(target "/", root) == 1) print target }' /proc/self/mountinfo | sort -r
}

unmount_below() {
  local target
  while read -r target; do
    umount "$target" 2>/dev/null || umount -l "$target" 2>/dev/null || true
  done < <(mounts_below "$1")
}

# loops_below DIR: loop devices whose file is there. Found by inode, since the path that the kernel shows is as the node saw it.
loops_below() {
  local device inode file
  [[ -d $1 ]] || return 0
  while read -r device inode; do
    file=$(find "$1" -xdev -type f -size +1M -inum "$inode" -print -quit)
    if [[ -n $file ]] && losetup --noheadings --output NAME --associated "$file" | grep -qx "$device"; then
      echo "$device"
    fi
  done < <(losetup --list --noheadings --raw --output NAME,BACK-INO)
}

detach_loops() {
  local device target
  while read -r device; do
    while read -r target; do
      umount "$target" 2>/dev/null || umount -l "$target" 2>/dev/null || true
    done < <(awk -v device="$device" '$1 == device { print $2 }' /proc/self/mounts | sort -r)
    losetup --detach "$device" 2>/dev/null || true
    wait_until 10 loop_is_free "$device" || die "$device is still in use"
  done < <(loops_below "$1")
}

loop_is_free() { [[ ! -e /sys/block/${1#/dev/}/loop/backing_file ]]; }

# Where the machine's own file system is btrfs, a node's pool may be a plain directory with subvolumes, which rm can't remove.
delete_subvolumes() {
  local subvolume
  [[ -d $DATA && $(stat -f -c %T "$DATA") == btrfs ]] || return 0
  while read -r subvolume; do
    btrfs subvolume delete "$subvolume"
  done < <(find "$DATA" -depth -type d -inum 256)
}

# Removing what is still mounted would remove what was mounted.
nothing_mounted() { [[ -z $(mounts_below "$RUN")$(mounts_below "$DATA") ]]; }

remove_mounts() {
  unmount_below "$RUN"
  unmount_below "$DATA"
  detach_loops "$DATA"
  nothing_mounted || die "something is still mounted below $RUN or $DATA"
}

remove_files() {
  restore_host_sysctls
  remove_mount_points
  delete_subvolumes
  rm -rf "$RUN" "$DATA"
}

# remove_cluster LOG
remove_cluster() {
  step "ending the cluster's processes" "$1" kill_cgroup
  step "removing its networks" "$1" remove_network
  step "removing its mounts" "$1" remove_mounts
  step "removing its files" "$1" remove_files
}
