{{- define "flagger.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "flagger.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "flagger.selector" -}}
app.kubernetes.io/name: {{ include "flagger.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "flagger.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "flagger.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "flagger.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "flagger.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The Service and Deployment of the bundled Prometheus, which have labels of their own: the operator is selected by the others. */}}
{{- define "flagger.prometheus" -}}
{{- printf "%s-prometheus" (include "flagger.fullname" . | trunc 52 | trimSuffix "-") -}}
{{- end -}}

{{- define "flagger.prometheusAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- printf "%s-prometheus" (include "flagger.serviceAccountName" .) -}}
{{- else -}}
{{- include "flagger.serviceAccountName" . -}}
{{- end -}}
{{- end -}}

{{/*
Whether our CRDs are served, and so a cluster is there to be asked: Helm installs them before it renders anything else. Without a cluster
(helm template) nothing is known. The function lookup can't tell: it ends the installation over a kind that is not served.
*/}}
{{- define "flagger.connected" -}}
{{- if .Capabilities.APIVersions.Has "flagger.app/v1beta1/Canary" -}}
yes
{{- end -}}
{{- end -}}

{{/* Whether a kind can be made. Where nothing is known, what the user says counts. */}}
{{- define "flagger.served" -}}
{{- $kind := index . 1 -}}
{{- with index . 0 -}}
{{- if or (.Capabilities.APIVersions.Has $kind) (not (include "flagger.connected" .)) -}}
yes
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The Secret with the kubeconfig of the mesh: its name and key under one of two names of values. */}}
{{- define "flagger.meshSecret" -}}
{{- .Values.controlplane.kubeconfig.secretName | default .Values.istio.kubeconfig.secretName -}}
{{- end -}}

{{- define "flagger.meshKey" -}}
{{- if .Values.controlplane.kubeconfig.secretName -}}
{{- .Values.controlplane.kubeconfig.key -}}
{{- else -}}
{{- .Values.istio.kubeconfig.key -}}
{{- end -}}
{{- end -}}
