#!/usr/bin/env bash
# Fails, naming the files, if generated code or CRDs are not what hack/generate.sh makes of the
# API types. Works on a copy; the tree is not touched.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
generated=(
  pkg/apis
  pkg/client
  artifacts/flagger/crd.yaml
  charts/flagger/crds/crd.yaml
  kustomize/base/flagger/crd.yaml
  docs/reference
)

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp go.mod go.sum "$copy"
mkdir -p "$copy/pkg" "$copy/hack"
# The API types check schedules.
cp -r pkg/apis pkg/schedule "$copy/pkg"
cp -r hack/codegen hack/docs "$copy/hack"
# The reference of values is made from these.
cp --parents charts/*/README.md "$copy"
hack/generate.sh "$copy"

stale=0
for path in "${generated[@]}"; do
  diff -Nrq "$path" "$copy/$path" || stale=1
done
if [ "$stale" -ne 0 ]; then
  echo "error: the files above differ from what their source says; run make generate and commit the result" >&2
  exit 1
fi
