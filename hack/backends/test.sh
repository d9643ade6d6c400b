#!/usr/bin/env bash
# Runs the tests of metric back-ends against the servers themselves, which it gets without root from where they are published:
# Graphite from packages of Debian or Ubuntu, InfluxDB from its Go module: 1.8, the last that is Go alone, which has the query API
# of 2. They stay in the cache of the testbed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/flagger-testbed
work=$(mktemp -d)
pids=()
stop() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap stop EXIT

packages=(
  graphite-web python3-whisper python3-django python3-django-tagging python3-asgiref python3-sqlparse python3-pyparsing
  python3-simplejson python3-tz python3-urllib3 python3-six python3-cachetools
  # It draws as well, by cairo, without which it does not start.
  python3-cairocffi python3-xcffib python3-cffi-backend libcairo2 libpixman-1-0 libxcb1 libxcb-render0 libxcb-shm0 libxau6 libxdmcp6
  libbsd0 libmd0 libx11-6 libxext6 libxrender1 libfontconfig1 libfreetype6 libpng16-16 libexpat1 libbrotli1
)

# graphite unpacks the packages. Two that do it at the same time end with the same folder.
graphite() {
  local place=$cache/graphite
  [ -d "$place" ] && return
  for tool in apt-get dpkg; do
    command -v "$tool" >/dev/null || { echo "Graphite is taken from packages of Debian: $tool is not on this machine" >&2; exit 1; }
  done
  mkdir -p "$work/packages" "$work/graphite" "$cache"
  (cd "$work/packages" && apt-get download -qq "${packages[@]}" 2>"$work/apt.log") || { cat "$work/apt.log" >&2; exit 1; }
  for package in "$work"/packages/*.deb; do dpkg -x "$package" "$work/graphite"; done
  mv -T "$work/graphite" "$place" 2>/dev/null || [ -d "$place" ]
}

# fails shows the log of a server that has ended.
fails() {
  ! kill -0 "$1" 2>/dev/null && { cat "$2" >&2; exit 1; }
  sleep 0.1
}

graphite
mkdir "$work/data"
library=$cache/graphite/usr/lib
# The modules are those of the Python of the system.
PYTHONPATH=$library/python3/dist-packages LD_LIBRARY_PATH=$library/$(uname -m)-linux-gnu \
  /usr/bin/python3 "$root/hack/backends/serve_graphite.py" "$work/data" >"$work/graphite.log" 2>&1 &
pids+=($!)

(cd "$root/hack/backends/influxdb" && GOBIN=$cache/influxdb go install tool)
cat >"$work/influxdb.conf" <<END
reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
  dir = "$work/influxdb/meta"
[data]
  dir = "$work/influxdb/data"
  wal-dir = "$work/influxdb/wal"
[http]
  bind-address = "127.0.0.1:0"
  flux-enabled = true
END
"$cache/influxdb/influxd" -config "$work/influxdb.conf" >"$work/influxdb.log" 2>&1 &
pids+=($!)

until [ -s "$work/data/address" ]; do fails "${pids[0]}" "$work/graphite.log"; done
until influxdb=$(grep -o 'Listening on HTTP.*addr=[0-9.:]*' "$work/influxdb.log"); do fails "${pids[1]}" "$work/influxdb.log"; done

cd "$root"
GRAPHITE_URL=$(<"$work/data/address") INFLUXDB_URL=http://${influxdb##*=} \
  go test -count=1 -run RealServer -v ./pkg/metrics/graphite ./pkg/metrics/influxdb
