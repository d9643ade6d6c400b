#!/usr/bin/env bash
# Fails when the statements of the packages that decide are covered by less than 95 %. The rules count as covered where the
# golden traces lead through them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

profile=$(mktemp)
trap 'rm -f "$profile"' EXIT
for pkg in rollout analysis fingerprint; do
  SEEDS=300 go test -count=1 -coverpkg="./pkg/$pkg" -coverprofile="$profile" "./pkg/$pkg" ./pkg/simulate >/dev/null
  total=$(go tool cover -func="$profile" | awk '/^total:/ {sub("%", "", $3); print $3}')
  echo "pkg/$pkg: $total %"
  awk -v t="$total" 'BEGIN {exit !(t >= 95)}' || { echo "error: pkg/$pkg is covered by $total %, less than 95 %" >&2; exit 1; }
done
