{{- define "grafana.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "grafana.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "grafana.selector" -}}
app.kubernetes.io/name: {{ include "grafana.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "grafana.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "grafana.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Names of ConfigMaps, one for each dashboard: all together are larger than what kubectl apply can note. */}}
{{- define "grafana.dashboard" -}}
{{- printf "%s-dashboard-%s" (include "grafana.fullname" (index . 0) | trunc 40 | trimSuffix "-") (index . 1) -}}
{{- end -}}

{{/* Whether everybody is let in: there is no password, here or in a Secret of the user. */}}
{{- define "grafana.open" -}}
{{- $password := .Values.password -}}
{{- range .Values.env -}}
{{- if eq .name "GF_SECURITY_ADMIN_PASSWORD" -}}
{{- $password = "set" -}}
{{- end -}}
{{- end -}}
{{- if not $password -}}
yes
{{- end -}}
{{- end -}}
