#!/usr/bin/env bash
# Generates everything that is derived from the API types: deep copies, the Go client and the
# CRDs. Run it after a change in pkg/apis. An argument names the tree to work in (hack/verify.sh
# uses that); the default is the one this script lies in.
set -euo pipefail

root=$(cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}" && pwd)
cd "$root"

codegen_version=v0.36.3 # the same as k8s.io/client-go in go.mod
controller_gen_version=v0.23.0
module=flagger.app/flagger
client=$module/pkg/client
api=$module/pkg/apis/flagger/v1beta1

codegen() {
  local name=$1
  shift
  go run "k8s.io/code-generator/cmd/$name@$codegen_version" "$@"
}

codegen deepcopy-gen --output-file zz_generated.deepcopy.go "$api"

# Written from nothing, so that code of a removed type goes too.
rm -rf pkg/client
codegen applyconfiguration-gen \
  --output-dir pkg/client/applyconfiguration --output-pkg "$client/applyconfiguration" "$api"
codegen client-gen \
  --clientset-name versioned --input-base "$module/pkg/apis" --input flagger/v1beta1 \
  --apply-configuration-package "$client/applyconfiguration" \
  --output-dir pkg/client/clientset --output-pkg "$client/clientset"
codegen lister-gen --output-dir pkg/client/listers --output-pkg "$client/listers" "$api"
codegen informer-gen \
  --versioned-clientset-package "$client/clientset/versioned" --listers-package "$client/listers" \
  --output-dir pkg/client/informers --output-pkg "$client/informers" "$api"

# Thresholds of metrics are floating-point numbers, which controller-gen accepts only when told.
crds=$(mktemp -d)
trap 'rm -rf "$crds"' EXIT
go run "sigs.k8s.io/controller-tools/cmd/controller-gen@$controller_gen_version" \
  crd:allowDangerousTypes=true paths=./pkg/apis/... output:crd:dir="$crds"
for file in artifacts/flagger/crd.yaml charts/flagger/crds/crd.yaml kustomize/base/flagger/crd.yaml; do
  mkdir -p "$(dirname "$file")"
  {
    echo "# Generated from pkg/apis by hack/generate.sh; change the Go types instead."
    # Without the first separator, which would make an empty document of the line above.
    cat "$crds"/flagger.app_{canaries,metrictemplates,alertproviders}.yaml | sed 1d
  } >"$file"
done
