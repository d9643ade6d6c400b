{{/* What a provider makes or reads beside Services: the family of its name. */}}
{{- define "flagger.family" -}}
{{- if or (hasPrefix "smi:" .) (eq . "linkerd") (eq . "osm") -}}smi
{{- else if or (eq . "nginx") (eq . "skipper") -}}ingress
{{- else -}}{{ regexFind "^[a-z]+" . }}
{{- end -}}
{{- end -}}

{{/* The families that the role has to cover, each between spaces. */}}
{{- define "flagger.families" -}}
{{- if or (not .Values.meshProvider) (has "*" .Values.rbac.providers) }} all {{ end -}}
{{- range prepend .Values.rbac.providers (default "" .Values.meshProvider) }} {{ include "flagger.family" . }} {{ end -}}
{{- end -}}

{{- define "flagger.write" -}}
[get, list, watch, create, update, patch, delete]
{{- end -}}

{{/* The rules of the operator that fit into a Role. */}}
{{- define "flagger.rules" -}}
{{- $families := include "flagger.families" . -}}
{{- $all := contains " all " $families -}}
{{- if .Values.configTracking.enabled -}}
# Secrets that pods of a target read are copied for its primary.
- apiGroups: [""]
  resources: [events, configmaps, configmaps/finalizers, secrets, secrets/finalizers, services, services/finalizers]
  verbs: {{ include "flagger.write" . }}
{{- else -}}
- apiGroups: [""]
  resources: [events, services, services/finalizers]
  verbs: {{ include "flagger.write" . }}
# Credentials of metric templates and alert providers are read when they are needed, one by one.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
{{- end }}
# They tell whether pods have a port that spec.service.targetPort names and no template declares.
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: {{ include "flagger.write" . }}
- apiGroups: [apps]
  resources: [daemonsets, daemonsets/finalizers, deployments, deployments/finalizers]
  verbs: {{ include "flagger.write" . }}
# Promoted revisions are kept, so that a deleted primary can be made again.
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: {{ include "flagger.write" . }}
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers, horizontalpodautoscalers/finalizers]
  verbs: {{ include "flagger.write" . }}
- apiGroups: [keda.sh]
  resources: [scaledobjects, scaledobjects/finalizers]
  verbs: {{ include "flagger.write" . }}
- apiGroups: [flagger.app]
  resources:
  - canaries
  - canaries/status
  - canaries/finalizers
  - metrictemplates
  - metrictemplates/status
  - alertproviders
  - alertproviders/status
  verbs: {{ include "flagger.write" . }}
- apiGroups: [metrics.keptn.sh]
  resources: [keptnmetrics, analyses]
  verbs: {{ include "flagger.write" . }}
- apiGroups: [external.metrics.k8s.io]
  resources: ["*"]
  verbs: [get, list, watch]
{{- if or $all (contains " ingress " $families) }}
- apiGroups: [extensions, networking.k8s.io]
  resources: [ingresses, ingresses/finalizers]
  verbs: {{ include "flagger.write" . }}
{{- end }}
{{- if or $all (contains " istio " $families) }}
- apiGroups: [networking.istio.io]
  resources: [virtualservices, virtualservices/finalizers, destinationrules, destinationrules/finalizers]
  verbs: {{ include "flagger.write" . }}
{{- end }}
{{- if or $all (contains " appmesh " $families) }}
- apiGroups: [appmesh.k8s.aws]
  resources:
  - virtualnodes
  - virtualnodes/finalizers
  - virtualrouters
  - virtualrouters/finalizers
  - virtualservices
  - virtualservices/finalizers
  verbs: {{ include "flagger.write" . }}
{{- end }}
{{- if or $all (contains " smi " $families) }}
- apiGroups: [split.smi-spec.io]
  resources: [trafficsplits, trafficsplits/finalizers]
  verbs: {{ include "flagger.write" . }}
- apiGroups: [specs.smi-spec.io]
  resources: [httproutegroups, httproutegroups/finalizers]
  verbs: {{ include "flagger.write" . }}
{{- end }}
{{- if or $all (contains " gloo " $families) }}
- apiGroups: [gloo.solo.io]
  resources: [upstreams, upstreams/finalizers]
  verbs: {{ include "flagger.write" . }}
- apiGroups: [gateway.solo.io]
  resources: [routetables, routetables/finalizers]
  verbs: {{ include "flagger.write" . }}
{{- end }}
{{- if or $all (contains " contour " $families) }}
- apiGroups: [projectcontour.io]
  resources: [httpproxies, httpproxies/finalizers]
  verbs: {{ include "flagger.write" . }}
{{- end }}
{{- if or $all (contains " traefik " $families) }}
- apiGroups: [traefik.io]
  resources: [traefikservices, traefikservices/finalizers, ingressroutes, ingressroutes/finalizers]
  verbs: {{ include "flagger.write" . }}
{{- end }}
{{- if or $all (contains " gatewayapi " $families) }}
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes, httproutes/finalizers]
  verbs: {{ include "flagger.write" . }}
{{- end }}
{{- if or $all (contains " apisix " $families) }}
- apiGroups: [apisix.apache.org]
  resources: [apisixroutes, apisixroutes/finalizers]
  verbs: {{ include "flagger.write" . }}
{{- end }}
{{- if or $all (contains " knative " $families) }}
- apiGroups: [serving.knative.dev]
  resources: [services]
  verbs: [get, list, watch, update, patch]
- apiGroups: [serving.knative.dev]
  resources: [revisions]
  verbs: [get, list, watch]
{{- end }}
{{- end -}}

{{/*
The rules that need a ClusterRole: TrafficRoutes of Kuma have no namespace. An operator of one namespace gets them only if somebody
asks for Kuma by name.
*/}}
{{- define "flagger.clusterRules" -}}
{{- $families := include "flagger.families" . -}}
{{- if or (contains " kuma " $families) (and (contains " all " $families) (not .Values.namespace)) -}}
- apiGroups: [kuma.io]
  resources: [trafficroutes, trafficroutes/finalizers]
  verbs: {{ include "flagger.write" . }}
{{- end -}}
{{- end -}}
