# shellcheck shell=bash
# Images without a registry: packed here as OCI archives, and imported into the containerd of the nodes.

coredns_image() { echo "localhost/sparks-cluster/coredns:$(version_of coredns)"; }

# pack_image NAME PROGRAM: an image with nothing but one static program. Packed again when the program changes.
pack_image() {
  local name=$1 program=$2 archive=$IMAGES/$2.tar root=$IMAGES/$2.root
  [[ ! $archive -nt $BIN/$program || $(ociarchive inspect "$archive") != "$name "* ]] || return 0
  rm -rf "$root"
  mkdir -p "$root"
  cp "$BIN/$program" "$root/$program"
  ociarchive pack -name "$name" -out "$archive" -root "$root" -entrypoint "/$program"
  rm -rf "$root"
}

ensure_images() {
  mkdir -p "$IMAGES"
  pack_image "$PAUSE_IMAGE" pause
  pack_image "$(coredns_image)" coredns
}

load_base_images() {
  load_image "$1" "$IMAGES/pause.tar"
  load_image "$1" "$IMAGES/coredns.tar"
}

# load_image NODE ARCHIVE: imports it unless every image in it is there already.
load_image() {
  local name digest have line
  have=$(ctr_in "$1" images list)
  while read -r name digest; do
    line=$(awk -v name="$name" '$1 == name { print $3 }' <<<"$have")
    if [[ $line != "$digest" ]]; then
      ctr_in "$1" images import --digests=false "$2"
      return
    fi
  done < <(ociarchive inspect "$2" || echo "- unknown")
}
