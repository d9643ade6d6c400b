package metrics

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// observer is how a mesh or ingress counts requests.
type observer struct {
	// requests is the counter, matchers select the canary's share of it, and good the answers that are no failure.
	requests, matchers, good string
	// latency is the query for the duration of a request, in the unit given.
	latency string
	seconds bool
	// buckets are those of the histogram of durations, slots its matchers, and inSeconds is whether their bounds are in seconds.
	buckets, slots string
	inSeconds      bool
	// direct is whether requests are counted that no route led there as well: probes, scrapes, and what a pod asks of others.
	direct bool
	// mixed is whether the requests of both sides are counted as one, or those of the primary can't be found.
	mixed bool
}

// text is the query for one measure of a built-in metric.
func (o observer) text(t task) (string, error) {
	switch {
	case t.measure == measureValue && t.source == analysis.SuccessRate:
		return o.successRate(), nil
	case t.measure == measureValue:
		return o.latency, nil
	case t.source == analysis.SuccessRate || !analysis.Counted(t.metric):
		all := increase(o.requests, o.matchers)
		if t.measure == measureGood {
			// Whoever has answered with errors alone has no series of good requests yet.
			return increase(o.requests, o.matchers+", "+o.good) + " or " + all + " * 0", nil
		}
		return all, nil
	case t.measure == measureGood:
		bound, err := time.ParseDuration(t.metric.Comparison.SlowerThan)
		if err != nil {
			return "", fmt.Errorf("comparison.slowerThan: %w", err)
		}
		return increase(o.buckets, o.slots+`, le=~"`+o.bucket(bound)+`"`), nil
	default:
		return increase(o.buckets, o.slots+`, le="+Inf"`), nil
	}
}

// bucket is the regular expression for the bound of a bucket: 1 in one version of Prometheus is 1.0 in the next. The backslash is
// one of a string in PromQL.
func (o observer) bucket(bound time.Duration) string {
	value := float64(bound) / float64(time.Millisecond)
	if o.inSeconds {
		value = bound.Seconds()
	}
	text := strconv.FormatFloat(value, 'f', -1, 64)
	if whole, part, ok := strings.Cut(text, "."); ok {
		return whole + `\\.` + part
	}
	return text + `(\\.0)?`
}

func increase(metric, matchers string) string {
	return fmt.Sprintf("sum(increase(%s{%s}[{{ interval }}]))", metric, matchers)
}

// successRate is the percentage of good requests. Without any request Prometheus answers 0/0, which is NaN, or nothing. Whoever has
// answered with errors alone has exported no series of good requests yet, and has a rate of 0.
func (o observer) successRate() string {
	all := rate(o.requests, o.matchers)
	return "(" + rate(o.requests, o.matchers+", "+o.good) + " or " + all + " * 0) / " + all + " * 100"
}

func rate(metric, matchers string) string {
	return fmt.Sprintf("sum(rate(%s{%s}[{{ interval }}]))", metric, matchers)
}

func p99(bucket, matchers string) string {
	return fmt.Sprintf("histogram_quantile(0.99, sum(rate(%s{%s}[{{ interval }}])) by (le))", bucket, matchers)
}

func (o observer) withoutSides() observer {
	o.mixed = true
	return o
}

func (o observer) withDirect() observer {
	o.direct = true
	return o
}

// timed adds the histogram of durations to an observer whose latency is a percentile of it, in the unit of its bounds.
func (o observer) timed(bucket, matchers string, seconds bool) observer {
	o.buckets, o.slots, o.inSeconds = bucket, matchers, seconds
	if o.latency == "" {
		o.latency = p99(bucket, matchers)
	}
	return o
}

// mean is in milliseconds for a summary in seconds.
func mean(summary, matchers string) string {
	return rate(summary+"_sum", matchers) + " / " + rate(summary+"_count", matchers) + " * 1000"
}

// envoy is what the meshes and ingresses that expose Envoy's own metrics have in common.
func envoy(matchers string) observer {
	return observer{
		requests: "envoy_cluster_upstream_rq",
		matchers: matchers,
		good:     `envoy_response_code!~"5.*"`,
	}.timed("envoy_cluster_upstream_rq_time_bucket", matchers, false)
}

// These are the labels by which the series of a canary, or of a primary, are found.
const (
	ofIstio   = `reporter="destination", destination_workload_namespace="{{ namespace }}", destination_workload=~"{{ target }}"`
	ofLinkerd = `namespace="{{ namespace }}", deployment=~"{{ target }}", direction="inbound"`
	ofPods    = `kubernetes_namespace="{{ namespace }}", kubernetes_pod_name=~"{{ pods }}"`
	ofOSM     = `destination_namespace="{{ namespace }}", destination_kind="Deployment", destination_name="{{ target }}"`
	ofNGINX   = `namespace="{{ namespace }}", ingress="{{ ingress }}", canary{{ if primary }}={{ else }}!={{ end }}""` +
		// An Ingress may lead to other applications, too. A canary has them out of the way unless they have one there as well.
		`{{ if or primary shared }}, service="{{ service }}"{{ end }}`
	ofSkipper = `route=~"kube(ew)?_{{ word namespace }}__{{ word ingress }}(_{{ word service }})?_canary(_[0-9])?` +
		`__.*__{{ word service }}_{{ side }}(_[0-9]+)?"`
	ofTraefik = `service=~"{{ namespace }}-{{ service }}-{{ side }}-[0-9a-zA-Z-]+@kubernetescrd"`
	ofAPISIX  = `route=~"{{ namespace }}_{{ route }}-{{ service }}-canary_.+"`
)

// observers is the table of the built-in metrics. Names that the provider generates are built from the name of the apex
// Service where the objects are, and from the target where the workload is meant.
func observers() map[string]func() observer {
	return map[string]func() observer{
		"istio": func() observer {
			return observer{requests: "istio_requests_total", matchers: ofIstio, good: `response_code!~"5.*"`}.
				timed("istio_request_duration_milliseconds_bucket", ofIstio, false)
		},
		"linkerd": func() observer {
			return observer{requests: "response_total", matchers: ofLinkerd, good: `classification!="failure"`}.
				timed("response_latency_ms_bucket", ofLinkerd, false).withDirect()
		},
		"appmesh": func() observer { return envoy(ofPods).withDirect() },
		"contour": func() observer {
			return envoy(`envoy_cluster_name=~"{{ namespace }}_{{ service }}-{{ side }}_[0-9a-zA-Z-]+"`)
		},
		"gloo": func() observer {
			return envoy(`envoy_cluster_name=~"{{ namespace }}-{{ service }}-{{ side }}upstream-[0-9a-zA-Z-]+_[0-9a-zA-Z-]+"`)
		},
		"kuma":    func() observer { return envoy(`service=~"{{ service }}-{{ side }}_{{ namespace }}_svc_[0-9a-zA-Z-]+"`) },
		"knative": func() observer { return envoy(`envoy_cluster_name=~"{{ namespace }}/{{ route }}"`).withoutSides() },
		"osm": func() observer {
			return observer{requests: "osm_request_total", matchers: ofOSM, good: `response_code!~"5.*"`}.
				timed("osm_request_duration_ms_bucket", ofOSM, false)
		},
		// The durations of NGINX and Skipper are means, not percentiles: thresholds in use are made for them.
		"nginx": func() observer {
			return observer{requests: "nginx_ingress_controller_requests", matchers: ofNGINX, good: `status!~"5.*"`,
				latency: mean("nginx_ingress_controller_response_duration_seconds", ofNGINX)}.
				timed("nginx_ingress_controller_response_duration_seconds_bucket", ofNGINX, true)
		},
		"skipper": func() observer {
			return observer{requests: "skipper_response_duration_seconds_bucket", matchers: ofSkipper + `, le="+Inf"`, good: `code!~"5.."`,
				latency: mean("skipper_serve_route_duration_seconds", ofSkipper)}.
				timed("skipper_serve_route_duration_seconds_bucket", ofSkipper, true)
		},
		"traefik": func() observer {
			return observer{requests: "traefik_service_request_duration_seconds_bucket", matchers: ofTraefik + `, le="+Inf"`, good: `code!~"5.."`,
				latency: p99("traefik_service_request_duration_seconds_bucket", ofTraefik) + " * 1000"}.
				timed("traefik_service_request_duration_seconds_bucket", ofTraefik, true)
		},
		"apisix": func() observer {
			return observer{requests: "apisix_http_status", matchers: ofAPISIX, good: `code!~"5.."`}.
				timed("apisix_http_latency_bucket", `type=~"request", `+ofAPISIX, false).withoutSides()
		},
		// http stands for applications that expose these metrics themselves.
		"http": func() observer {
			return observer{requests: "http_request_duration_seconds_count", matchers: ofPods, good: `status!~"5.*"`, seconds: true}.
				timed("http_request_duration_seconds_bucket", ofPods, true).withDirect()
		},
	}
}

// serviceSuffix marks, in the name of a metrics provider, a target that is a Service.
const serviceSuffix = ":service"

// ObserverName is the name of the metrics provider that messages show: the routing provider of the Canary, or "linkerd"
// where the mesh of the cluster is Linkerd and the Canary names an ingress in front of it, with ":service" for a target of
// kind Service.
func ObserverName(flagProvider string, c *v1beta1.Canary) string {
	name := flagProvider
	if c.Spec.Provider != "" {
		name = c.Spec.Provider
		if strings.Contains(flagProvider, v1beta1.LinkerdProvider) && !isMesh(name) {
			name = v1beta1.LinkerdProvider
		}
	}
	if c.IsCoreService() {
		name += serviceSuffix
	}
	return name
}

// isMesh tells the providers that measure traffic themselves from those that Linkerd can measure for them.
func isMesh(name string) bool {
	switch name {
	case v1beta1.IstioProvider, v1beta1.KumaProvider, v1beta1.OsmProvider, v1beta1.KnativeProvider,
		v1beta1.AppMeshProvider, v1beta1.AppMeshV1Beta2Provider:
		return true
	}
	return false
}

// meshOfSMI is the mesh that counts the requests of a TrafficSplit: the one named after the version, where it is known.
func meshOfSMI(name string) string {
	if mesh := name[strings.LastIndex(name, ":")+1:]; mesh == v1beta1.LinkerdProvider || mesh == v1beta1.OsmProvider {
		return mesh
	}
	return v1beta1.IstioProvider
}

// observerFor finds the queries for the name that ObserverName returns.
func observerFor(name string) (observer, error) {
	name = strings.TrimSuffix(name, serviceSuffix)
	switch {
	case strings.HasPrefix(name, "appmesh"):
		name = "appmesh"
	case strings.HasPrefix(name, "gloo"):
		name = "gloo"
	case strings.HasPrefix(name, "gatewayapi"), name == v1beta1.KubernetesProvider:
		name = "http"
	case strings.HasPrefix(name, "smi:"):
		name = meshOfSMI(name)
	case name == "http":
		name = ""
	}
	known, ok := observers()[name]
	if !ok {
		return observer{}, fmt.Errorf("there are no built-in metrics for provider %q: correct spec.provider or the operator's flag -mesh-provider, or use templateRef", name)
	}
	return known(), nil
}
