#!/bin/bash
# Builds a Kubernetes control plane and Envoy Gateway from their Go modules into the folder given, with the definitions of
# their kinds in its `crds` (Go 1.26.7 or newer, about ten minutes and 6 GB of Go's own caches). An interrupted build goes
# on where it was; what is there in the wanted version is kept.
set -euo pipefail
out=${1:?usage: build_tools.sh FOLDER}
kubernetes=1.36.3 etcd=3.6.16 gateway=1.9.1 gateway_api=1.6.1
mkdir -p "$out/modules" && cd "$out"
command -v go >/dev/null || { echo "Go is not installed; with it, this builds what a cluster for tests needs" >&2; exit 1; }
export GOWORK=off CGO_ENABLED=0 GOFLAGS="-mod=mod -buildvcs=false"

# module NAME PATH VERSION: a module that requires just this one, so that every other version follows from its go.mod
module() {
  local folder=modules/$1-$3 theirs
  [ -f "$folder/complete" ] && return
  rm -rf "$folder" && mkdir "$folder"
  (
    cd "$folder"
    go mod init "tools/$1" 2>/dev/null
    theirs=$(go mod download -json "$2@v$3" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
    go mod edit -go="$(awk '$1 == "go" { print $2 }' "$theirs")" -require="$2@v$3"
    if [ "$1" = kubernetes ]; then
      # Its go.mod points at folders beside it; the same code is published as k8s.io/NAME v0.MINOR.PATCH.
      sed -n "s|^\t\(k8s.io/[^ ]*\) => \./staging/.*|\1|p" "$theirs" |
        while read -r part; do go mod edit -replace="$part=$part@v0.${3#*.}"; done
      awk '$1 == "godebug" { print $2 }' "$theirs" | while read -r line; do go mod edit -godebug="$line"; done
    fi
    touch complete
  )
}

# build PROGRAM MODULE-FOLDER PACKAGE [LINKER-FLAGS]
build() {
  [ -x "$1" ] && [ "$(cat "modules/$1.built" 2>/dev/null)" = "$2" ] && return
  echo "building $1" >&2
  (cd "modules/$2" && nice go build -ldflags "-s -w ${4:-}" -o "$out/$1" "$3")
  echo "$2" > "modules/$1.built"
}

# definitions MODULE VERSION FOLDER: the custom kinds that a folder of a module defines
definitions() {
  local theirs
  theirs=$(go mod download -json "$1@v$2" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  grep -lZ '^kind: CustomResourceDefinition' "$theirs/$3"/*.yaml | xargs -0 install -m 644 -t "$out/crds.new"
}

out=$PWD
version="-X k8s.io/component-base/version.gitVersion=v$kubernetes"
module etcd go.etcd.io/etcd/server/v3 $etcd
module kubernetes k8s.io/kubernetes $kubernetes
build etcd etcd-$etcd go.etcd.io/etcd/server/v3
build kube-apiserver kubernetes-$kubernetes k8s.io/kubernetes/cmd/kube-apiserver "$version"
build kube-controller-manager kubernetes-$kubernetes k8s.io/kubernetes/cmd/kube-controller-manager "$version"
module gateway github.com/envoyproxy/gateway $gateway
build envoy-gateway gateway-$gateway github.com/envoyproxy/gateway/cmd/envoy-gateway \
  "-X github.com/envoyproxy/gateway/internal/cmd/version.envoyGatewayVersion=v$gateway"
if [ "$(cat crds/versions 2>/dev/null)" != "$gateway $gateway_api" ]; then
  rm -rf crds.new && mkdir crds.new
  definitions sigs.k8s.io/gateway-api $gateway_api config/crd/experimental
  definitions github.com/envoyproxy/gateway $gateway charts/gateway-helm/charts/crds/crds/generated
  echo "$gateway $gateway_api" > crds.new/versions
  rm -rf crds && mv crds.new crds
fi
echo "KUBEBUILDER_ASSETS=$out"
