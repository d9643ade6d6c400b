package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// +genclient
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=canaries,singular=canary,scope=Namespaced,categories=all
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Weight",type=string,JSONPath=`.status.canaryWeight`
// +kubebuilder:printcolumn:name="Suspended",type=boolean,JSONPath=`.spec.suspend`,priority=1
// +kubebuilder:printcolumn:name="FailedChecks",type=string,JSONPath=`.status.failedChecks`,priority=1
// +kubebuilder:printcolumn:name="Interval",type=string,JSONPath=`.spec.analysis.interval`,priority=1
// +kubebuilder:printcolumn:name="Mirror",type=boolean,JSONPath=`.spec.analysis.mirror`,priority=1
// +kubebuilder:printcolumn:name="StepWeight",type=string,JSONPath=`.spec.analysis.stepWeight`,priority=1
// +kubebuilder:printcolumn:name="StepWeights",type=string,JSONPath=`.spec.analysis.stepWeights`,priority=1
// +kubebuilder:printcolumn:name="MaxWeight",type=string,JSONPath=`.spec.analysis.maxWeight`,priority=1
// +kubebuilder:printcolumn:name="LastTransitionTime",type=string,JSONPath=`.status.lastTransitionTime`

// Canary asks the operator to roll out every new revision of a workload step by step, to judge
// it by metrics and hooks, and to promote it or take it back.
type Canary struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what the user asks for.
	Spec CanarySpec `json:"spec"`

	// Status is what the operator observed and how far the rollout has come.
	// +optional
	Status CanaryStatus `json:"status,omitempty,omitzero"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true

// CanaryList is a list of Canary objects.
type CanaryList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Canary `json:"items"`
}

// CanarySpec describes the workload, how traffic reaches it and how a new revision is judged.
// +kubebuilder:validation:XValidation:rule="has(self.analysis) || has(self.canaryAnalysis) || (has(self.skipAnalysis) && self.skipAnalysis)",message="analysis is missing: describe it in spec.analysis, or set spec.skipAnalysis: true to promote without one"
// +kubebuilder:validation:XValidation:rule="!(self.targetRef.apiVersion == 'serving.knative.dev/v1' && self.targetRef.kind == 'Service') || !has(self.provider) || self.provider == 'knative'",message="can't use this provider with Knative Service as target: set spec.provider to knative",messageExpression="\"can't use \" + self.provider + \" provider with Knative Service as target: set spec.provider to knative\"",fieldPath=".provider"
// +kubebuilder:validation:XValidation:rule="!has(self.provider) || self.provider != 'knative' || (self.targetRef.apiVersion == 'serving.knative.dev/v1' && self.targetRef.kind == 'Service')",message="can't use this target if provider is set to knative: refer to a serving.knative.dev/v1 Service, or set another spec.provider",messageExpression="\"can't use \" + self.targetRef.apiVersion + \"/\" + self.targetRef.kind + \" as target if provider is set to knative: refer to a serving.knative.dev/v1 Service, or set another spec.provider\"",fieldPath=".targetRef"
// +kubebuilder:validation:XValidation:rule="!(self.targetRef.apiVersion == 'serving.knative.dev/v1' && self.targetRef.kind == 'Service') || !has(self.autoscalerRef)",message="can't use autoscaler with Knative Service: remove spec.autoscalerRef, Knative scales its revisions itself",fieldPath=".autoscalerRef"
// +kubebuilder:validation:XValidation:rule="has(self.service) || self.targetRef.kind == 'Service'",message="spec.service.port is missing: set the port the target is reached at"
// +kubebuilder:validation:XValidation:rule="(self.targetRef.apiVersion == 'serving.knative.dev/v1' && self.targetRef.kind == 'Service') || (has(self.service) && has(self.service.name) && size(self.service.name) > 0 ? self.service.name : self.targetRef.name).matches('^[a-z0-9]([-a-z0-9]{0,53}[a-z0-9])?$')",message="spec.service.name (default: the name of the target) must be a DNS label of at most 55 characters, because the Services <name>-primary and <name>-canary are derived from it: set a shorter spec.service.name"
// +kubebuilder:validation:XValidation:rule="!has(self.provider) || !(self.provider in ['nginx', 'skipper']) || has(self.ingressRef)",message="this provider needs spec.ingressRef: name the Ingress that exposes the target",fieldPath=".ingressRef"
// +kubebuilder:validation:XValidation:rule="!has(self.provider) || self.provider != 'apisix' || has(self.routeRef)",message="provider apisix needs spec.routeRef: name the ApisixRoute that exposes the target",fieldPath=".routeRef"
// +kubebuilder:validation:XValidation:rule="!has(self.provider) || self.provider != 'appmesh' || (has(self.service) && has(self.service.meshName))",message="provider appmesh needs spec.service.meshName: name the mesh of the virtual nodes"
// +kubebuilder:validation:XValidation:rule="!has(self.provider) || !self.provider.startsWith('gatewayapi') || (has(self.routeRef) && self.routeRef.kind == 'HTTPRoute') || (has(self.service) && has(self.service.gatewayRefs) && size(self.service.gatewayRefs) > 0)",message="this provider needs spec.service.gatewayRefs: name the Gateways the HTTPRoute attaches to"
// +kubebuilder:validation:XValidation:rule="!has(self.provider) || !has(self.routeRef) || (self.routeRef.kind == 'ApisixRoute' ? true : self.routeRef.kind == 'HTTPRoute' ? self.provider.startsWith('gatewayapi') : self.provider == 'istio')",message="this provider does not change routes of this kind: name an HTTPRoute with provider gatewayapi, a VirtualService with provider istio, an ApisixRoute with provider apisix",fieldPath=".routeRef"
// +kubebuilder:validation:XValidation:rule="!has(self.primaryRef) || (has(self.routeRef) && self.routeRef.kind in ['HTTPRoute', 'VirtualService'])",message="a primary of your own needs a route of your own: name the HTTPRoute or VirtualService in spec.routeRef",fieldPath=".primaryRef"
// +kubebuilder:validation:XValidation:rule="!has(self.primaryRef) || (self.primaryRef.kind == self.targetRef.kind && self.primaryRef.kind in ['DaemonSet', 'Deployment'])",message="primaryRef and targetRef must both be a Deployment, or both a DaemonSet",fieldPath=".primaryRef"
// +kubebuilder:validation:XValidation:rule="!has(self.primaryRef) || self.primaryRef.name != self.targetRef.name",message="primaryRef and targetRef are one workload: name another one as the primary",fieldPath=".primaryRef"
// +kubebuilder:validation:XValidation:rule="has(self.primaryRef) || !has(self.service) || !(has(self.service.primaryName) || has(self.service.canaryName))",message="spec.service.primaryName and canaryName name Services beside a primary of your own: set spec.primaryRef, or remove them"
// +kubebuilder:validation:XValidation:rule="!has(self.provider) || self.provider != 'istio' || !has(self.service) || !has(self.service.delegation) || !self.service.delegation || !((has(self.service.hosts) && size(self.service.hosts) > 0) || (has(self.service.gateways) && size(self.service.gateways) > 0))",message="a VirtualService with delegation has neither hosts nor gateways: remove spec.service.hosts and spec.service.gateways, or spec.service.delegation"
// +kubebuilder:validation:XValidation:rule="!has(self.provider) || !has(self.ingressRef) || self.ingressRef.kind == 'Ingress' || self.provider == 'traefik'",message="this provider reads no IngressRoute: name an Ingress",fieldPath=".ingressRef"
type CanarySpec struct {
	// Provider is the mesh or ingress that shifts the traffic. Default: the operator's
	// -mesh-provider flag.
	// +kubebuilder:validation:Enum=apisix;appmesh;"appmesh:v1beta2";contour;external;gatewayapi;"gatewayapi:v1";"gatewayapi:v1beta1";gloo;istio;knative;kubernetes;kuma;linkerd;nginx;osm;skipper;"smi:v1alpha1";"smi:v1alpha2";"smi:v1alpha3";traefik
	// +optional
	Provider string `json:"provider,omitempty"`

	// MetricsServer is the URL of the Prometheus server for built-in metrics and inline queries.
	// Default: the operator's -metrics-server flag.
	// +optional
	MetricsServer string `json:"metricsServer,omitempty"`

	// TargetRef names the workload whose new revisions are rolled out: a Deployment or DaemonSet
	// (apps/v1), a Service (v1) or a Knative Service (serving.knative.dev/v1).
	// +kubebuilder:validation:XValidation:rule="self.kind in ['DaemonSet', 'Deployment', 'Service']",message="targetRef.kind must be DaemonSet, Deployment or Service"
	TargetRef LocalObjectReference `json:"targetRef"`

	// PrimaryRef names a workload of the user, of the kind of the target, that serves as the
	// primary: no copy of the target is made, and no Service. A promotion copies the pod template
	// of the target into it, but for the labels of the pods. Default: a copy of the target, named
	// <target>-primary, that the operator makes and keeps.
	// +optional
	PrimaryRef *LocalObjectReference `json:"primaryRef,omitempty"`

	// AutoscalerRef names the HorizontalPodAutoscaler or KEDA ScaledObject of the target. The
	// primary gets a copy of it, which goes when another or none is named, unless it is named by
	// primaryRef.
	// +optional
	AutoscalerRef *AutoscalerReference `json:"autoscalerRef,omitempty"`

	// IngressRef names the Ingress that exposes the target (providers nginx and skipper), or the
	// IngressRoute whose routes an A/B test is to copy (traefik).
	// +kubebuilder:validation:XValidation:rule="self.kind in ['Ingress', 'IngressRoute']",message="ingressRef.kind must be Ingress or IngressRoute"
	// +optional
	IngressRef *LocalObjectReference `json:"ingressRef,omitempty"`

	// RouteRef names the ApisixRoute that exposes the target (provider apisix), or the HTTPRoute
	// (gatewayapi) or VirtualService (istio) of the user in whose rules the weights of the primary
	// and the canary Service are to be shifted. All else in such a route stays as it is, and no
	// other route is made. With another provider it has no effect.
	// +kubebuilder:validation:XValidation:rule="self.kind in ['ApisixRoute', 'HTTPRoute', 'VirtualService']",message="routeRef.kind must be ApisixRoute, HTTPRoute or VirtualService"
	// +optional
	RouteRef *LocalObjectReference `json:"routeRef,omitempty"`

	// UpstreamRef names the Gloo Upstream whose settings the generated Upstreams take over
	// (provider gloo).
	// +kubebuilder:validation:XValidation:rule="has(self.apiVersion) && has(self.kind) && self.kind == 'Upstream'",message="upstreamRef needs apiVersion and kind: Upstream"
	// +optional
	UpstreamRef *CrossNamespaceObjectReference `json:"upstreamRef,omitempty"`

	// Service describes the Services and routes in front of the target.
	// +optional
	Service CanaryService `json:"service,omitempty,omitzero"`

	// Analysis says how a new revision gets traffic and how it is judged.
	// +optional
	Analysis *CanaryAnalysis `json:"analysis,omitempty"`

	// CanaryAnalysis is the old name of analysis, read only where analysis is not set.
	//
	// Deprecated: use analysis.
	// +optional
	CanaryAnalysis *CanaryAnalysis `json:"canaryAnalysis,omitempty"`

	// ProgressDeadlineSeconds is how long, in seconds, a workload may take to become ready
	// before the revision is given up. Default 600.
	// +kubebuilder:validation:Minimum=0
	// +optional
	ProgressDeadlineSeconds *int32 `json:"progressDeadlineSeconds,omitempty"`

	// SkipAnalysis promotes a new revision as soon as it is ready, without analysis.
	// +optional
	SkipAnalysis bool `json:"skipAnalysis,omitempty"`

	// RevertOnDeletion gives the traffic back to the target, scaled up, before the Canary is
	// deleted. Services and routes of users become what they were. Without it a deletion takes
	// the primary away and leaves the target without pods, so requests are lost. Default: what
	// the flag -revert-on-deletion of the operator says, which is false unless set.
	// +optional
	RevertOnDeletion bool `json:"revertOnDeletion,omitempty"`

	// DependsOn puts changes of several Canaries in an order: a change of this one begins once those
	// of the others were promoted.
	// +optional
	DependsOn *DependsOn `json:"dependsOn,omitempty"`

	// Suspend stops the rollout where it is; nothing is changed until it is false again.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
}

// LocalObjectReference names an object in the namespace of the Canary.
type LocalObjectReference struct {
	// APIVersion of the object, for example apps/v1.
	// +kubebuilder:validation:MaxLength=253
	APIVersion string `json:"apiVersion"`

	// Kind of the object.
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`

	// Name of the object.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// CrossNamespaceObjectReference names an object in any namespace, unless the operator runs with
// -no-cross-namespace-refs.
type CrossNamespaceObjectReference struct {
	// APIVersion of the object.
	// +optional
	APIVersion string `json:"apiVersion,omitempty"`

	// Kind of the object.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Kind string `json:"kind,omitempty"`

	// Name of the object.
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`

	// Namespace of the object. Default: the namespace of the Canary.
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// AutoscalerReference names the autoscaler of the target and how the primary's copy differs.
type AutoscalerReference struct {
	// APIVersion of the autoscaler, for example autoscaling/v2 or keda.sh/v1alpha1.
	APIVersion string `json:"apiVersion"`

	// Kind of the autoscaler.
	// +kubebuilder:validation:Enum=HorizontalPodAutoscaler;ScaledObject
	Kind string `json:"kind"`

	// Name of the autoscaler.
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`

	// PrimaryScalerQueries replaces the query of triggers in the primary's ScaledObject:
	// trigger name to query.
	// +optional
	PrimaryScalerQueries map[string]string `json:"primaryScalerQueries,omitempty"`

	// PrimaryScalerReplicas overrides the replica bounds of the primary's autoscaler.
	// +optional
	PrimaryScalerReplicas *ScalerReplicas `json:"primaryScalerReplicas,omitempty"`
}

// ScalerReplicas are the replica bounds of an autoscaler.
type ScalerReplicas struct {
	// MinReplicas is the lower bound. Default: that of the target's autoscaler.
	// +kubebuilder:validation:Minimum=1
	// +optional
	MinReplicas *int32 `json:"minReplicas,omitempty"`

	// MaxReplicas is the upper bound. Default: that of the target's autoscaler.
	// +kubebuilder:validation:Minimum=1
	// +optional
	MaxReplicas *int32 `json:"maxReplicas,omitempty"`
}

// CanaryService describes the three Services (apex, primary, canary) and the routes to them.
// Which routing fields have an effect depends on the provider.
type CanaryService struct {
	// Name of the apex Service; the others are <name>-primary and <name>-canary.
	// Default: targetRef.name. An existing Service that leads to the target is taken over; one
	// that leads to other pods is refused. After a change the Services and routes of the former
	// name are removed as soon as the new ones are in force; those of users are left to them.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Name string `json:"name,omitempty"`

	// PrimaryName and CanaryName are the Services of the user that lead to the pods of primaryRef
	// and of targetRef. Only with primaryRef. Default: <name>-primary and <name>-canary.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	PrimaryName string `json:"primaryName,omitempty"`

	// CanaryName: see primaryName.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	CanaryName string `json:"canaryName,omitempty"`

	// Port of the Services.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`

	// PortName is the name of the Service port. Default http.
	// +optional
	PortName string `json:"portName,omitempty"`

	// TargetPort is the number or name of the container port. Default: port.
	// +kubebuilder:validation:XIntOrString
	// +optional
	TargetPort intstr.IntOrString `json:"targetPort,omitempty,omitzero"`

	// AppProtocol of the Service port, for example http, grpc or tcp.
	// +optional
	AppProtocol string `json:"appProtocol,omitempty"`

	// TrafficDistribution of the Services: which endpoints are preferred.
	// +kubebuilder:validation:Enum=PreferClose;PreferSameZone;PreferSameNode
	// +optional
	TrafficDistribution string `json:"trafficDistribution,omitempty"`

	// PortDiscovery adds the other container ports of the target to the Services.
	// +optional
	PortDiscovery bool `json:"portDiscovery,omitempty"`

	// Headless creates the Services without a cluster IP.
	// +optional
	Headless bool `json:"headless,omitempty"`

	// Timeout of a request, as a duration such as 15s.
	// +optional
	Timeout string `json:"timeout,omitempty"`

	// BackendTimeout is the timeout of one attempt at a backend (Gateway API).
	// +optional
	BackendTimeout string `json:"backendTimeout,omitempty"`

	// Gateways are the Istio gateways that serve the hosts. Default: mesh.
	// +optional
	Gateways []string `json:"gateways,omitempty"`

	// GatewayRefs are the Gateways, or for a mesh the Services, the HTTPRoute attaches to
	// (Gateway API).
	// +kubebuilder:validation:MaxItems=32
	// +optional
	GatewayRefs []ParentReference `json:"gatewayRefs,omitempty"`

	// Hosts are the host names of the routes.
	// +optional
	Hosts []string `json:"hosts,omitempty"`

	// Delegation makes the Istio VirtualService a delegate: without hosts and gateways, for
	// another VirtualService to refer to.
	// +optional
	Delegation bool `json:"delegation,omitempty"`

	// TrafficPolicy goes on the Istio DestinationRules of primary and canary.
	// +optional
	TrafficPolicy *TrafficPolicy `json:"trafficPolicy,omitempty"`

	// Match restricts the routes to requests that meet any of these conditions.
	// +kubebuilder:validation:MaxItems=128
	// +optional
	Match []HTTPMatchRequest `json:"match,omitempty"`

	// Rewrite changes path or host of requests.
	// +optional
	Rewrite *HTTPRewrite `json:"rewrite,omitempty"`

	// Retries is the retry policy of requests.
	// +optional
	Retries *HTTPRetry `json:"retries,omitempty"`

	// Headers adds, sets or removes headers of requests and responses.
	// +optional
	Headers *Headers `json:"headers,omitempty"`

	// Mirror copies all requests to other backends, independent of any analysis (Gateway API).
	// +kubebuilder:validation:MaxItems=32
	// +optional
	Mirror []HTTPRequestMirrorFilter `json:"mirror,omitempty"`

	// CorsPolicy is the cross-origin policy of the routes.
	// +optional
	CorsPolicy *CorsPolicy `json:"corsPolicy,omitempty"`

	// MeshName is the App Mesh mesh of the virtual nodes (provider appmesh).
	// +optional
	MeshName string `json:"meshName,omitempty"`

	// Backends are the App Mesh backends of the virtual nodes.
	// +optional
	Backends []string `json:"backends,omitempty"`

	// Apex is metadata for the apex Service and the routing objects.
	// +optional
	Apex *CustomMetadata `json:"apex,omitempty"`

	// Primary is metadata for the primary Service.
	// +optional
	Primary *CustomMetadata `json:"primary,omitempty"`

	// Canary is metadata for the canary Service.
	// +optional
	Canary *CustomMetadata `json:"canary,omitempty"`

	// UnmanagedMetadata are keys of labels and annotations on the Services that others own and
	// that keep their live value.
	// +optional
	UnmanagedMetadata *UnmanagedMetadata `json:"unmanagedMetadata,omitempty"`
}

// CustomMetadata are labels and annotations to set on generated objects.
type CustomMetadata struct {
	// Labels to set.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`

	// Annotations to set.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// UnmanagedMetadata are keys of labels and annotations the operator leaves alone.
type UnmanagedMetadata struct {
	// Labels are keys of labels.
	// +optional
	Labels []string `json:"labels,omitempty"`

	// Annotations are keys of annotations.
	// +optional
	Annotations []string `json:"annotations,omitempty"`
}
