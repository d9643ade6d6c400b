package charts

import _ "embed"

// flaggerContract are all values of Flagger's own chart, with the values that its users give them. A test of the operator installs with them, too.
//
//go:embed testdata/flagger-values.yaml
var flaggerContract string

// flaggerSets are values whose renders are in testdata, from where a test of the operator sends them to a real API server.
var flaggerSets = map[string]string{
	"default":  ``,
	"contract": flaggerContract,
	"available": `
meshProvider: gatewayapi:v1
leaderElection: {replicaCount: 2}
podPriorityClassName: system-cluster-critical
podDisruptionBudget: {enabled: true}
networkPolicy:
  enabled: true
  from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
  egress: [{}]
deletionWarning: {enabled: true, action: Deny}
revertOnDeletion: true
maxConcurrentRollouts: 5
maxConcurrentRolloutsPerNamespace: 2
rolloutSchedule:
  windows: Mon-Thu 09:00-16:00; Fri 09:00-12:00
  freezes: 2026-12-19/2027-01-03
  timeZone: Europe/Berlin
  hold: true
metricsServerSecret: monitoring/prometheus
additionalArgs: [-min-analysis-interval=5s]
prometheusRule: {enabled: true, namespace: monitoring, additionalLabels: {release: prometheus}, runbookUrl: "https://git.example.com/flagger/blob/main/"}
`,
	"elected": `
namespace: shop
meshProvider: istio
leaderElection: {enabled: true}
`,
	// It is run, with the flags that tests of the operator run it with.
	"pod": `
namespace: shop
meshProvider: istio
leaderElection: {replicaCount: 2}
prometheus: {install: true}
additionalArgs: [-min-analysis-interval=500ms, -route-propagation-delay=500ms]
`,
	"pod-contour": `
namespace: shop
meshProvider: contour
leaderElection: {replicaCount: 2}
metricsServer: http://prometheus.monitoring:9090
additionalArgs: [-min-analysis-interval=500ms, -route-propagation-delay=500ms]
`,
	"pod-gatewayapi": `
namespace: shop
meshProvider: gatewayapi:v1
leaderElection: {replicaCount: 2}
metricsServer: http://prometheus.monitoring:9090
additionalArgs: [-min-analysis-interval=500ms, -route-propagation-delay=500ms]
`,
	"namespaced": `
namespace: shop
meshProvider: contour
rbac: {providers: [kuma, nginx]}
prometheus: {install: true, pullSecret: registry}
`,
	"prometheus": `
meshProvider: appmesh:v1beta2
prometheus: {install: true}
`,
	"openshift": `
meshProvider: kubernetes
securityContext: {enabled: false}
configTracking: {enabled: false}
`,
}

// loadtesterContract are all values of Flagger's own chart, with the values that its users give them.
const loadtesterContract = `
replicaCount: 1
image: {repository: ghcr.io/fluxcd/flagger-loadtester, tag: 0.38.0, pullPolicy: IfNotPresent, pullSecret: registry}
podLabels: {sidecar: none}
podAnnotations: {prometheus.io/scrape: "true", appmesh.k8s.aws/ports: "8080"}
podPriorityClassName: system-cluster-critical
logLevel: warning
cmd: {timeout: 2h30m, namespaceRegexp: "^shop-"}
env: [{name: HELM_DRIVER, value: secret}]
service: {type: ClusterIP, port: 8080}
resources: {requests: {cpu: 10m, memory: 64Mi}}
volumes: [{name: scripts, configMap: {name: scripts}}]
volumeMounts: [{name: scripts, mountPath: /home/app/scripts}]
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{key: control, operator: Exists}]
affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}
rbac:
  create: true
  scope: cluster
  rules: [{apiGroups: [""], resources: [pods], verbs: [list, get]}]
  serviceAccountAnnotations: {iam.gke.io/gcp-service-account: tester@example.com}
serviceAccountName: ""
meshName: ""
backends: []
appmesh: {enabled: false, backends: [podinfo, podinfo-canary]}
istio: {enabled: true, host: tester.example.com, gateway: {enabled: true}, tls: {enabled: true, httpsRedirect: true}}
securityContext: {enabled: true, context: {readOnlyRootFilesystem: true, runAsUser: 100, runAsGroup: 101}}
podSecurityContext: {enabled: true, context: {fsGroup: 101, fsGroupChangePolicy: OnRootMismatch}}
podDisruptionBudget: {enabled: true, minAvailable: 1}
nameOverride: ""
fullnameOverride: ""
`

// podinfoContract are all values of Flagger's own chart, with the values that its users give them.
const podinfoContract = `
image: {repository: ghcr.io/stefanprodan/podinfo, tag: 6.1.3, pullPolicy: IfNotPresent}
podAnnotations: {linkerd.io/inject: enabled}
service: {enabled: false, type: ClusterIP, port: 9898}
hpa: {enabled: true, minReplicas: 2, maxReplicas: 4, cpu: 80, memory: 512Mi}
canary:
  enabled: true
  istioTLS: DISABLE
  istioIngress: {enabled: true, gateway: istio-system/public-gateway, host: podinfo.example.com}
  analysis: {interval: 15s, threshold: 10, maxWeight: 50, stepWeight: 5}
  thresholds: {successRate: 99, latency: 500}
  loadtest: {enabled: true, url: "http://flagger-loadtester.test/"}
  helmtest: {enabled: true, url: "http://flagger-helmtester.kube-system/"}
resources: {limits: null, requests: {cpu: 100m, memory: 32Mi}}
nodeSelector: {}
tolerations: []
affinity: {}
logLevel: info
backend: http://backend-podinfo:9898/echo
backends: []
message: hello
faults: {delay: false, error: false}
httpServer: {timeout: 30s}
nameOverride: ""
fullnameOverride: ""
`

// grafanaContract are all values of Flagger's own chart, with the values that its users give them.
const grafanaContract = `
replicaCount: 1
image: {repository: docker.io/grafana/grafana, tag: 13.1.4, pullPolicy: IfNotPresent}
podAnnotations: {team: delivery}
service: {type: ClusterIP, port: 8080}
resources: {limits: {memory: 512Mi}}
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{key: control, operator: Exists}]
affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}
user: root
password: change-me
url: http://prometheus.monitoring:9090
token: secret
nameOverride: ""
fullnameOverride: ""
`

// sets are values by chart and name. Their renders are in testdata, from where a test of the operator sends them to a real API server.
var sets = map[string]map[string]string{
	"flagger": flaggerSets,
	"loadtester": {
		"default":  ``,
		"contract": loadtesterContract,
		"role":     `{rbac: {create: true, rules: [{apiGroups: [apps], resources: [deployments], verbs: [get]}]}, networkPolicy: {enabled: true}}`,
		"appmesh":  `appmesh: {enabled: true}`,
		"appmesh1": `{meshName: global, backends: [podinfo.test, podinfo-canary.test]}`,
		"openshift": `
securityContext: {enabled: false}
rbac: {create: true, scope: cluster}
serviceAccountName: tester
cmd: {maxCommands: 5, enableShell: false, shellNamespaces: [shop, web]}
`,
	},
	"grafana": {
		"default":  ``,
		"contract": grafanaContract,
		"secret": `
env:
- {name: GF_SECURITY_ADMIN_PASSWORD, valueFrom: {secretKeyRef: {name: grafana-admin, key: password}}}
- {name: PROMETHEUS_TOKEN, valueFrom: {secretKeyRef: {name: prometheus, key: token}}}
networkPolicy: {enabled: true, from: [{podSelector: {}}]}
`,
		"openshift": `securityContext: {enabled: false}`,
	},
	"podinfo": {
		"default":  ``,
		"contract": podinfoContract,
		"service":  `{service: {enabled: true}, hpa: {enabled: false}}`,
		"canary":   `canary: {enabled: true}`,
		"backends": `{backend: "http://one:9898/echo", backends: ["http://two:9898/echo", "http://three:9898/echo"], faults: {delay: true, error: true}}`,
	},
}
