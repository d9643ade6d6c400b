// Package contour shifts traffic with a Contour HTTPProxy. It has no virtual host: a root HTTPProxy of the user includes it.
//
// Field reference: https://projectcontour.io/docs/main/config/api/.
package contour

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// idleTimeout goes with a request timeout: Envoy counts the idle timeout of a stream against slow answers as well.
const idleTimeout = "5m"

// Options are the settings that come from flags.
type Options struct {
	// IngressClass is the value of spec.ingressClassName. Empty leaves the field alone.
	IngressClass string
	// Unowned leaves out owner references, for a mesh in another cluster.
	Unowned bool
}

// Provider renders HTTPProxies.
type Provider struct{ options Options }

var _ router.Provider = (*Provider)(nil)

// New returns the provider.
func New(options Options) *Provider { return &Provider{options: options} }

// Abilities: weights, A/B matches on headers and query parameters, and copies of all requests or of a share.
func (*Provider) Abilities() router.Abilities {
	return router.Abilities{Routes: true, Weights: true, Match: true, RE2: true, CanaryMatch: true, Mirror: true, MirrorWeight: true}
}

// Resources is HTTPProxy.
func (*Provider) Resources() []router.Ref { return []router.Ref{ref("", "")} }

// Sources is empty.
func (*Provider) Sources(*v1beta1.Canary) []router.Ref { return nil }

func ref(namespace, name string) router.Ref {
	return router.RefTo("projectcontour.io", "v1", "HTTPProxy", "httpproxies").Of(namespace, name)
}

// Render returns the HTTPProxy. The parts of it that aren't ours are everything but the routes.
func (p *Provider) Render(c *v1beta1.Canary, t router.Traffic, _ router.Live) ([]router.Object, error) {
	routes, err := renderRoutes(c, t)
	if err != nil {
		return nil, err
	}
	spec := map[string]any{"routes": routes}
	owned := [][]string{{"spec", "routes"}}
	if p.options.IngressClass != "" {
		spec["ingressClassName"] = p.options.IngressClass
		owned = append(owned, []string{"spec", "ingressClassName"})
	}
	proxy := ref(c.Namespace, router.NamesOf(c).Apex)
	return []router.Object{{
		Ref:          proxy,
		Wanted:       router.NewWanted(c, proxy, spec),
		Owned:        owned,
		KeepOriginal: true,
		Unowned:      p.options.Unowned,
	}}, nil
}

// Read takes the weights from the first route, which is the one that splits traffic.
func (p *Provider) Read(c *v1beta1.Canary, live router.Live) (router.Observed, error) {
	names := router.NamesOf(c)
	proxy := ref(c.Namespace, names.Apex)
	o, err := router.MustGet(live, proxy)
	if err != nil {
		return router.Observed{}, err
	}
	routes, _, err := unstructured.NestedSlice(o.Object, "spec", "routes")
	if err != nil || len(routes) == 0 {
		return router.Observed{}, fmt.Errorf("%s %w: it has no routes", proxy, router.ErrUnreadable)
	}
	first, ok := routes[0].(map[string]any)
	if !ok {
		return router.Observed{}, fmt.Errorf("%s %w: its first route is no object", proxy, router.ErrUnreadable)
	}
	services, _, err := unstructured.NestedSlice(first, "services")
	if err != nil {
		return router.Observed{}, fmt.Errorf("%s %w: %w", proxy, router.ErrUnreadable, err)
	}
	split := slices.DeleteFunc(slices.Clone(services), isMirror)
	weights := router.ServiceWeights(split, "name")
	traffic, err := router.Split(proxy, weights[names.Primary], weights[names.Canary])
	traffic.Matched, traffic.Mirror = isPicky(first), len(split) < len(services)
	return router.Observed{Traffic: traffic, Settled: true}, err
}

// renderRoutes returns one route or, for an A/B test, one for each match and one for all other requests. Routes to the canary alone
// follow that for all requests: Contour asks those with more conditions first, whatever their order.
func renderRoutes(c *v1beta1.Canary, t router.Traffic) ([]any, error) {
	picked, err := matchesConditions(c)
	if err != nil {
		return nil, err
	}
	always, err := router.CanaryMatches(c, matchesConditions)
	if err != nil {
		return nil, err
	}
	var routes []any
	if t.Matched {
		for _, conditions := range picked {
			routes = append(routes, renderRoute(c, t, conditions))
		}
		return append(routes, renderRoute(c, router.Traffic{Primary: 100}, plainConditions(c))), nil
	}
	routes = append(routes, renderRoute(c, t, plainConditions(c)))
	if t.SharesOut() {
		for _, conditions := range always {
			routes = append(routes, renderRoute(c, router.Traffic{Canary: 100}, conditions))
		}
	}
	return routes, nil
}

// matchesConditions returns the conditions of each entry of analysis.match.
func matchesConditions(c *v1beta1.Canary) ([][]any, error) {
	if err := (router.Conditions{System: "Contour", QueryParams: true}).Check(c); err != nil {
		return nil, err
	}
	var all [][]any
	for _, match := range c.GetAnalysis().Match {
		all = append(all, matchConditions(c, match))
	}
	return all, nil
}

// isPicky is whether a route is for requests with a header or a query parameter: the first one is in an A/B test.
func isPicky(route map[string]any) bool {
	conditions, _, err := unstructured.NestedSlice(route, "conditions")
	return err == nil && slices.ContainsFunc(conditions, func(condition any) bool {
		fields, ok := condition.(map[string]any)
		return ok && (fields["header"] != nil || fields["queryParameter"] != nil)
	})
}

func renderRoute(c *v1beta1.Canary, t router.Traffic, conditions []any) map[string]any {
	names := router.NamesOf(c)
	services := []any{renderService(c, names.Primary, t.Primary), renderService(c, names.Canary, t.Canary)}
	if t.Mirror {
		// The weight of a mirror is the percentage of requests that are copied. Without it all are.
		mirror := renderService(c, names.Canary, c.GetAnalysis().MirrorWeight)
		mirror["mirror"] = true
		services = append(services, mirror)
	}
	route := map[string]any{"conditions": conditions, "services": services}
	service := &c.Spec.Service
	if service.Timeout != "" {
		route["timeoutPolicy"] = map[string]any{"response": service.Timeout, "idle": idleTimeout}
	}
	if service.Retries != nil {
		route["retryPolicy"] = renderRetries(service.Retries)
	}
	return route
}

// renderService tells Linkerd, where it is meshed with Contour, which Service a request is for. Contour leaves out a
// weight of 0 when it stores an HTTPProxy itself, and so do we.
func renderService(c *v1beta1.Canary, name string, weight int32) map[string]any {
	port := c.Spec.Service.Port
	service := map[string]any{
		"name": name,
		"port": int64(port),
		"requestHeadersPolicy": map[string]any{"set": []any{map[string]any{
			"name":  "l5d-dst-override",
			"value": fmt.Sprintf("%s.%s.svc.cluster.local:%d", name, c.Namespace, port),
		}}},
	}
	if weight != 0 {
		service["weight"] = int64(weight)
	}
	return service
}

// isMirror is whether a service gets copies of requests, whose answers are dropped.
func isMirror(service any) bool {
	fields, ok := service.(map[string]any)
	return ok && fields["mirror"] == true
}

func renderRetries(retries *v1beta1.HTTPRetry) map[string]any {
	policy := map[string]any{"count": int64(retries.Attempts)}
	if retries.PerTryTimeout != "" {
		policy["perTryTimeout"] = retries.PerTryTimeout
	}
	var conditions []any
	for condition := range strings.SplitSeq(retries.RetryOn, ",") {
		if condition = strings.TrimSpace(condition); condition != "" {
			conditions = append(conditions, condition)
		}
	}
	if len(conditions) > 0 {
		policy["retryOn"] = conditions
	}
	return policy
}
