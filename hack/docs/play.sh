#!/usr/bin/env bash
# Plays the tutorial of Contour on a testbed as a reader would, with the commands and manifests of the page, and records what the dashboards
# of the operator, of Envoy and of the application showed: make recordings. The argument is the program of test/dashboards/record.
set -euo pipefail
cd "$(dirname "$0")/../.."
record=$1
page=docs/tutorials/contour.md

phase() {
  local wanted=$1
  kubectl -n test wait canary/podinfo --for=jsonpath='{.status.phase}'="$wanted" --timeout=15m
}

# Envoy runs beside the cluster of a testbed, and the Prometheus of the testbed reads its metrics.
kubectl create namespace projectcontour
kubectl apply -f - <<'EOF'
apiVersion: v1
kind: Service
metadata: {name: envoy, namespace: projectcontour}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: envoy, namespace: projectcontour, labels: {kubernetes.io/service-name: envoy}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints: [{addresses: [10.244.255.1]}]
EOF
kubectl apply -k kustomize/contour
kubectl -n projectcontour patch deployment flagger --type json \
  -p '[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "-metrics-server=http://prometheus.monitoring:9090"}]'
kubectl create namespace test
kubectl apply -k kustomize/podinfo
kubectl apply -k kustomize/tester
for deployment in projectcontour/flagger test/podinfo test/flagger-loadtester; do
  kubectl -n "${deployment%/*}" rollout status "deployment/${deployment#*/}" --timeout=10m
done

start=$(date +%s)
awk '/^```yaml$/ {print "---"; on = 1; next} /^```$/ {on = 0} on' "$page" | kubectl apply -f -
phase Initialized
kubectl -n test set image deployment/podinfo podinfod=ghcr.io/stefanprodan/podinfo:6.9.3
phase Progressing
phase Succeeded
kubectl -n test rollout restart deployment/podinfo
phase Progressing
kubectl -n test exec deploy/flagger-loadtester -- timeout 900 \
  bash -c 'while sleep 0.1; do curl -so /dev/null -H "Host: app.example.com" http://envoy.projectcontour/status/500; done' &
asks=$!
phase Failed
# Prometheus scrapes every second, so it knows the end by then.
sleep 5
end=$(date +%s)
kill $asks

"$record" -start "$start" -end "$end" \
  -source 'the Prometheus of a testbed on which the tutorial of Contour was played: one version is promoted, one taken back' \
  operator:namespace=test application:namespace=test,target=podinfo envoy
