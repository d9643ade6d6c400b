{{/* The flags of the operator. Values that are not set leave the defaults to it. */}}
{{- define "flagger.args" -}}
{{- $elected := index . 1 -}}
{{- $meshSecret := index . 2 -}}
{{- with index . 0 -}}
- {{ printf "-log-level=%s" .Values.logLevel | quote }}
{{- with .Values.meshProvider }}
- {{ printf "-mesh-provider=%s" . | quote }}
{{- end }}
{{- if .Values.prometheus.install }}
- {{ printf "-metrics-server=http://%s:9090" (include "flagger.prometheus" .) | quote }}
{{- else }}
- {{ printf "-metrics-server=%s" .Values.metricsServer | quote }}
{{- end }}
{{- with .Values.metricsServerSecret }}
- {{ printf "-metrics-server-secret=%s" . | quote }}
{{- end }}
- -enable-config-tracking={{ .Values.configTracking.enabled }}
{{- with .Values.namespace }}
- {{ printf "-namespace=%s" . | quote }}
{{- end }}
{{- with .Values.selectorLabels }}
- {{ printf "-selector-labels=%s" . | quote }}
{{- end }}
{{- with .Values.includeLabelPrefix }}
- {{ printf "-include-label-prefix=%s" . | quote }}
{{- end }}
{{- with .Values.ingressAnnotationsPrefix }}
- {{ printf "-ingress-annotations-prefix=%s" . | quote }}
{{- end }}
{{- with .Values.ingressClass }}
- {{ printf "-ingress-class=%s" . | quote }}
{{- end }}
{{- with .Values.threadiness }}
- -threadiness={{ int . }}
{{- end }}
{{- with .Values.kubeconfigQPS }}
- -kubeconfig-qps={{ int . }}
{{- end }}
{{- with .Values.kubeconfigBurst }}
- -kubeconfig-burst={{ int . }}
{{- end }}
{{- if $meshSecret }}
- {{ printf "-kubeconfig-service-mesh=/tmp/controlplane/%s" (include "flagger.meshKey" .) | quote }}
{{- end }}
{{- with .Values.eventWebhook }}
- {{ printf "-event-webhook=%s" . | quote }}
{{- end }}
{{- with .Values.clusterName }}
- {{ printf "-cluster-name=%s" . | quote }}
{{- end }}
{{- if .Values.noCrossNamespaceRefs }}
- -no-cross-namespace-refs=true
{{- end }}
{{- if .Values.revertOnDeletion }}
- -revert-on-deletion=true
{{- end }}
{{- if .Values.readinessConditions }}
- -readiness-conditions=true
{{- end }}
{{- with .Values.maxConcurrentRollouts }}
- -max-concurrent-rollouts={{ int . }}
{{- end }}
{{- with .Values.maxConcurrentRolloutsPerNamespace }}
- -max-concurrent-rollouts-per-namespace={{ int . }}
{{- end }}
{{- with .Values.rolloutSchedule.windows }}
- {{ printf "-rollout-windows=%s" . | quote }}
{{- end }}
{{- with .Values.rolloutSchedule.freezes }}
- {{ printf "-rollout-freezes=%s" . | quote }}
{{- end }}
{{- with .Values.rolloutSchedule.timeZone }}
- {{ printf "-rollout-time-zone=%s" . | quote }}
{{- end }}
{{- if .Values.rolloutSchedule.hold }}
- -rollout-hold=true
{{- end }}
{{- with .Values.slack.user }}
- {{ printf "-slack-user=%s" . | quote }}
{{- end }}
{{- with .Values.slack.channel }}
- {{ printf "-slack-channel=%s" . | quote }}
{{- end }}
{{- with .Values.slack.url }}
- {{ printf "-slack-url=%s" . | quote }}
{{- end }}
{{- with .Values.slack.proxyUrl | default .Values.slack.proxy }}
- {{ printf "-slack-proxy-url=%s" . | quote }}
{{- end }}
{{- with .Values.msteams.url }}
- {{ printf "-msteams-url=%s" . | quote }}
{{- end }}
{{- with .Values.msteams.proxyUrl }}
- {{ printf "-msteams-proxy-url=%s" . | quote }}
{{- end }}
{{- if $elected }}
- -enable-leader-election=true
{{- with .Values.leaderElection.shards }}
- -shards={{ int . }}
{{- end }}
- {{ printf "-leader-election-namespace=%s" .Release.Namespace | quote }}
{{- end }}
{{- range .Values.additionalArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}
{{- end -}}
