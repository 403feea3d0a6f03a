#!/bin/sh
# build.sh PART: builds a program of this module (oracle, cluster, libcni), or one with a module of its own (dns, flannel, render),
# unless the cache has it, and prints its path.
# The cache lies outside of the work tree, so that a fresh clone of the same state builds nothing.
set -eu
cd "$(dirname "$0")"
part=${1:?usage: build.sh oracle|cluster|libcni|dns|flannel|render}
command -v go >/dev/null || {
	echo "Go is missing: install Go 1.25 or newer (https://go.dev/dl), which builds tests/k8s/$part" >&2
	exit 3
}
export GOTOOLCHAIN=local GOWORK=off
kubernetes=$(sed -n 's|^\tk8s.io/kubernetes \(v[0-9.]*\)$|\1|p' go.mod)
version="-X k8s.io/component-base/version.gitVersion=$kubernetes -X k8s.io/client-go/pkg/version.gitVersion=$kubernetes"
module=.
[ ! -f "$part/go.mod" ] || module=$part
package=.
# flanneld's own main package, which no other can import: its module has no code of ours.
[ "$part" != flannel ] || package=github.com/flannel-io/flannel
state=$({ go version; cat "$module/go.mod" "$module/go.sum" build.sh; find "$part" -name '*.go' -exec cat {} +; } | sha256sum | cut -c1-16)
# It runs in an image that has no libraries. (flanneld's udp backend is C.)
[ "$part" != dns ] || export CGO_ENABLED=0
cache=${XDG_CACHE_HOME:-$HOME/.cache}/headrace/k8s
program=$cache/$part-$state
mkdir -p "$cache"
# Two builds at a time would do the work twice.
exec 9>"$cache/lock"
flock 9
if [ ! -x "$program" ]; then
	echo "building tests/k8s/$part: for the cluster minutes, the first time" >&2
	nice go -C "$part" build -mod=readonly -buildvcs=false -trimpath -ldflags "-s -w $version" -o "$program.new" "$package" >&2
	mv "$program.new" "$program"
	find "$cache" -name "$part-*" -mtime +30 -delete
fi
touch "$program"
echo "$program"
