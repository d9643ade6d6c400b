package v1beta1

// Names of the meshes and ingresses that can shift traffic (spec.provider, -mesh-provider).
const (
	AppMeshProvider           = "appmesh"
	AppMeshV1Beta2Provider    = "appmesh:v1beta2"
	ApisixProvider            = "apisix"
	ContourProvider           = "contour"
	ExternalProvider          = "external"
	GatewayAPIProvider        = "gatewayapi"
	GatewayAPIV1Provider      = "gatewayapi:v1"
	GatewayAPIV1Beta1Provider = "gatewayapi:v1beta1"
	GlooProvider              = "gloo"
	IstioProvider             = "istio"
	KnativeProvider           = "knative"
	KubernetesProvider        = "kubernetes"
	KumaProvider              = "kuma"
	LinkerdProvider           = "linkerd"
	NGINXProvider             = "nginx"
	OsmProvider               = "osm"
	SkipperProvider           = "skipper"
	SMIV1Alpha1Provider       = "smi:v1alpha1"
	SMIV1Alpha2Provider       = "smi:v1alpha2"
	SMIV1Alpha3Provider       = "smi:v1alpha3"
	TraefikProvider           = "traefik"
)

// Providers returns the names that spec.provider can have, in order.
func Providers() []string {
	return []string{
		ApisixProvider, AppMeshProvider, AppMeshV1Beta2Provider, ContourProvider, ExternalProvider,
		GatewayAPIProvider, GatewayAPIV1Provider, GatewayAPIV1Beta1Provider, GlooProvider, IstioProvider, KnativeProvider, KubernetesProvider, KumaProvider,
		LinkerdProvider, NGINXProvider, OsmProvider, SkipperProvider, SMIV1Alpha1Provider, SMIV1Alpha2Provider,
		SMIV1Alpha3Provider, TraefikProvider,
	}
}

// Kinds of routes that spec.routeRef can name to have their weights shifted.
const (
	HTTPRouteKind      = "HTTPRoute"
	VirtualServiceKind = "VirtualService"
)

// Strategies of an analysis; which one applies follows from its fields.
const (
	DeploymentStrategyCanary    = "canary"
	DeploymentStrategyBlueGreen = "blue-green"
	DeploymentStrategyABTesting = "ab-testing"
)

// Names of the built-in metrics, with the names they had in 2019.
const (
	MetricRequestSuccessRate = "request-success-rate"
	MetricRequestDuration    = "request-duration"
	MetricIstioRequestsTotal = "istio_requests_total"
	MetricIstioDuration      = "istio_request_duration_seconds_bucket"
)

// Names and annotations that are a contract with users.
const (
	// Finalizer holds a Canary with revertOnDeletion until the target has its traffic back.
	Finalizer = "finalizer.flagger.app"
	// PrimarySuffix ends the names of everything generated for the primary.
	PrimarySuffix = "-primary"
	// CanarySuffix ends the names of everything generated for the canary.
	CanarySuffix = "-canary"
	// ConfigTrackingAnnotation with a value that begins with "disable" excludes a ConfigMap or
	// Secret from tracking.
	ConfigTrackingAnnotation = "flagger.app/config-tracking"
	// OwnPathsAnnotation on a Canary is "true" where several Canaries share an Ingress: its copy of that has the paths to its own Service
	// alone, and the name of the Service in its name, so that no host and path is in two copies.
	OwnPathsAnnotation = "ingress.flagger.app/own-paths"
	// UrgentAnnotation on a Canary lets one change through that its schedule or the Canaries that it
	// depends on would keep waiting. Each value lets one through.
	UrgentAnnotation = "flagger.app/urgent"
)
