#!/usr/bin/env bash
# Builds etcd, kube-apiserver, kube-controller-manager and kubectl for tests, once, into the folder it prints: 9 minutes
# on two busy cores, 20 s where GOCACHE has the packages. After that there is nothing to do until go.mod names others.
# Needs Go (go.mod says which), 2 GiB for the linker, 3 GiB of GOCACHE, and no Docker. GOCACHE, GOMODCACHE and GOPROXY
# are Go's own business (without GOCACHE it keeps its cache under XDG_CACHE_HOME too); PARALLEL=1 takes less memory.
set -euo pipefail
cd "$(dirname "$0")"

version=$(awk '$1 == "k8s.io/kubernetes" { print $2; exit }' go.mod)
home=${XDG_CACHE_HOME:-$HOME/.cache}/crowdgate/kube
folder=$home/$version
# What they are built from: another etcd or another flag is a reason to build again.
source=$(cat go.mod go.sum build.sh | sha256sum | cut -d' ' -f1)

mkdir -p "$home"
exec {lock}>"$home/lock"
flock "$lock"
if [[ $(cat "$folder/source" 2>/dev/null) == "$source" ]]; then
  echo "$folder: Kubernetes $version is there"
  exit
fi
command -v go >/dev/null || { echo "Kubernetes $version is built with Go: $PWD/go.mod says which" >&2; exit 1; }

# Beside the folder that is asked for, so that nobody finds half of it.
fresh=$(mktemp -d "$home/building.XXXXXX")
trap 'rm -rf "$fresh"' EXIT
IFS=. read -r major minor _ <<<"${version#v}"
in=k8s.io/component-base/version
# Without a version stamped in, a server calls itself v0.0.0-master, which clients that compare versions refuse.
stamps="-X $in.gitVersion=$version -X $in.gitMajor=$major -X $in.gitMinor=$minor -X $in.gitTreeState=clean"
SECONDS=0
CGO_ENABLED=0 go build -mod=readonly -buildvcs=false -trimpath -p "${PARALLEL:-2}" -ldflags "-s -w $stamps" -o "$fresh/" tool
# etcd's main package is called by its module's path: .../etcd/server/v3.
mv "$fresh/server" "$fresh/etcd"
echo "$source" >"$fresh/source"
chmod 755 "$fresh"
rm -rf "$folder"
mv "$fresh" "$folder"
echo "$folder: Kubernetes $version built in $SECONDS s"
