#!/bin/sh
# build.sh PROGRAMS PLUGIN ARCHIVE: packs an OCI image (image-spec 1.1) of the programs, and prints its digest.
#
# There is no base image: the image holds our programs, the tools that they run (nft; ip for preflight), and the libraries that
# these are linked with, from this machine. The CNI plugin is linked statically, for it runs on the node, whatever C library is there.
# The same files give the same digest: names are sorted, times and owners are nought, nothing tells when or where.
set -eu
export LC_ALL=C
programs=$1 plugin=$2 archive=$3
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$(dirname "$0")/../../Cargo.toml" | head -1)
name=localhost/headrace:$version
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root blobs=$work/image/blobs/sha256
mkdir -p "$root" "$blobs"

# pack DIRECTORY: as a tar archive that shows nothing of this machine.
pack() {
	tar -C "$1" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=ustar -cf - .
}

digest() {
	sha256sum "$1" | cut -d' ' -f1
}

# blob FILE MEDIA-TYPE: moves it to where its content says, and prints its descriptor.
blob() {
	sum=$(digest "$1")
	printf '{"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":%d' "$2" "$sum" "$(stat -c %s "$1")"
	mv "$1" "$blobs/$sum"
}

for program in "$programs/headrace-dataplane" "$programs/headrace-agent" "$programs/headracectl" "$plugin"; do
	install -D -m 755 --strip "$program" "$root/usr/local/bin/${program##*/}"
done
for tool in nft ip; do
	path=$(PATH=$PATH:/usr/sbin command -v "$tool") || { echo "$tool is missing: run make deps" >&2; exit 1; }
	install -D -m 755 "$(readlink -f "$path")" "$root/usr/sbin/$tool"
done
# Libraries lie where ldd finds them: their directories are built into the loader.
for file in "$root"/usr/local/bin/* "$root"/usr/sbin/*; do
	# The plugin has none, for which ldd ends in an error.
	ldd "$file" 2>/dev/null || :
done | sed -n 's|^[^/]*\(/[^ ]*\) (.*|\1|p' | sort -u | while read -r library; do
	install -D -m 755 "$(readlink -f "$library")" "$root$library"
done
# Where the DaemonSets mount, since the root is read-only then.
install -d -m 755 "$root/run" "$root/tmp" "$root/etc/cni/net.d" "$root/opt/cni/bin" "$root/host/proc/sys/net" "$root/sys" "$root/proc" "$root/dev"

case $(uname -m) in
x86_64) machine=amd64 ;;
aarch64) machine=arm64 ;;
*) machine=$(uname -m) ;;
esac
pack "$root" >"$work/layer"
plain=$(digest "$work/layer")
gzip -n -6 "$work/layer"
layer=$(blob "$work/layer.gz" layer.v1.tar+gzip)
printf '{"architecture":"%s","os":"linux","config":{"Env":["PATH=/usr/local/bin:/usr/sbin"],"Cmd":["headracectl","--help"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
	"$machine" "$plain" >"$work/config"
config=$(blob "$work/config" config.v1+json)
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s},"layers":[%s}]}' \
	"$config" "$layer" >"$work/manifest"
image=$(digest "$work/manifest")
manifest=$(blob "$work/manifest" manifest.v1+json)
# containerd takes the first annotation for the image's name, others the second.
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s,"annotations":{"io.containerd.image.name":"%s","org.opencontainers.image.ref.name":"%s"}}]}' \
	"$manifest" "$name" "$name" >"$work/image/index.json"
printf '{"imageLayoutVersion":"1.0.0"}' >"$work/image/oci-layout"
mkdir -p "$(dirname "$archive")"
pack "$work/image" >"$archive.new"
mv "$archive.new" "$archive"
echo "$name: $archive, $(stat -c %s "$archive") bytes, sha256:$image"
