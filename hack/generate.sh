#!/usr/bin/env bash
# Generates everything that is derived from the API types: deep copies, the Go client, the CRDs
# and the reference in docs/. Run it after a change in pkg/apis. An argument names the tree to work in (hack/verify.sh
# uses that); the default is the one this script lies in.
set -euo pipefail

root=$(cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}" && pwd)
cd "$root"

module=flagger.app/flagger
client=$module/pkg/client
api=$module/pkg/apis/flagger/v1beta1

# The generators are pinned in modules of their own, so that they don't weigh on the operator's:
# two, because controller-gen is built with newer libraries than those of client-go in go.mod.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/crds"
for tools in client crd; do
  GOBIN="$work/bin" go -C "hack/codegen/$tools" install tool
done
PATH="$work/bin:$PATH"

deepcopy-gen --output-file zz_generated.deepcopy.go "$api"

# Written from nothing, so that code of a removed type goes too.
rm -rf pkg/client
applyconfiguration-gen \
  --output-dir pkg/client/applyconfiguration --output-pkg "$client/applyconfiguration" "$api"
client-gen \
  --clientset-name versioned --input-base "$module/pkg/apis" --input flagger/v1beta1 \
  --apply-configuration-package "$client/applyconfiguration" \
  --output-dir pkg/client/clientset --output-pkg "$client/clientset"
lister-gen --output-dir pkg/client/listers --output-pkg "$client/listers" "$api"
informer-gen \
  --versioned-clientset-package "$client/clientset/versioned" --listers-package "$client/listers" \
  --output-dir pkg/client/informers --output-pkg "$client/informers" "$api"

# Thresholds of metrics are floating-point numbers, which controller-gen accepts only when told.
controller-gen crd:allowDangerousTypes=true paths=./pkg/apis/... output:crd:dir="$work/crds"
for file in artifacts/flagger/crd.yaml charts/flagger/crds/crd.yaml kustomize/base/flagger/crd.yaml; do
  mkdir -p "$(dirname "$file")"
  {
    echo "# Generated from pkg/apis by hack/generate.sh; change the Go types instead."
    # Without the first separator, which would make an empty document of the line above.
    cat "$work"/crds/flagger.app_{canaries,metrictemplates,alertproviders}.yaml | sed 1d
  } >"$file"
done

go run ./hack/docs
