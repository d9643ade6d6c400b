// Package appmesh is what the providers for the two versions of the Kubernetes API of AWS App Mesh share.
//
// Field reference: https://aws.github.io/aws-app-mesh-controller-for-k8s/reference/api_spec/.
package appmesh

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// accessLogAnnotation on a Canary makes the proxies of its pods log requests when it is "enabled".
const accessLogAnnotation = "appmesh.flagger.app/accesslog"

const (
	accessLogPath = "/dev/stdout"
	// GRPC is the protocol of a port whose name has it.
	GRPC = "grpc"
)

// Priorities of the routes of an A/B test. The lowest number is asked first.
const (
	matchedPriority = 10
	defaultPriority = 20
)

// Annotations of a VirtualService that a gateway reads.
const (
	gatewayPrefix     = "gateway.appmesh.k8s.aws/"
	exposeAnnotation  = gatewayPrefix + "expose"
	domainAnnotation  = gatewayPrefix + "domain"
	timeoutAnnotation = gatewayPrefix + "timeout"
	retriesAnnotation = gatewayPrefix + "retries"
)

// Base is what the providers for both versions do alike.
type Base struct {
	// Version is that of the API.
	Version string
	Options router.Options
}

// Abilities: weights, and A/B matches on headers.
func (Base) Abilities() router.Abilities {
	return router.Abilities{Routes: true, Weights: true, Match: true, RE2: true}
}

// Ref names an object.
func (b Base) Ref(kind, namespace, name string) router.Ref {
	return router.RefTo("appmesh.k8s.aws", b.Version, kind, strings.ToLower(kind)+"s").Of(namespace, name)
}

// Object returns an object with fields of its spec that are ours. What it is to be comes later.
func (b Base) Object(kind string, c *v1beta1.Canary, name string, owned ...[]string) router.Object {
	o := router.Object{Ref: b.Ref(kind, c.Namespace, name), KeepOriginal: true, Unowned: b.Options.Unowned}
	for _, path := range owned {
		o.Owned = append(o.Owned, append([]string{"spec"}, path...))
	}
	return o
}

// Protocol is that of the port.
func Protocol(c *v1beta1.Canary) string {
	if strings.Contains(c.Spec.Service.PortName, GRPC) {
		return GRPC
	}
	return "http"
}

// PortMapping is that of a listener.
func PortMapping(c *v1beta1.Canary, port int32) map[string]any {
	return map[string]any{"port": int64(port), "protocol": Protocol(c)}
}

// Exposed gives the VirtualService of the apex the annotations of a gateway, as long as the Canary names hosts.
func Exposed(c *v1beta1.Canary, o *router.Object) {
	annotations := map[string]string{}
	service := &c.Spec.Service
	if len(service.Hosts) > 0 {
		annotations[exposeAnnotation] = "true"
		annotations[domainAnnotation] = strings.Join(service.Hosts, ",")
		if service.Timeout != "" {
			annotations[timeoutAnnotation] = service.Timeout
		}
		if service.Retries != nil && service.Retries.Attempts > 0 {
			annotations[retriesAnnotation] = strconv.Itoa(int(service.Retries.Attempts))
		}
		o.Wanted.SetAnnotations(annotations)
	}
	for _, name := range []string{exposeAnnotation, domainAnnotation, timeoutAnnotation, retriesAnnotation} {
		o.Owned = append(o.Owned, []string{"metadata", "annotations", name})
	}
}

// LogRequests turns the access log of a node on, and off again if it is the one that we turned on.
func LogRequests(c *v1beta1.Canary, o *router.Object, spec map[string]any, existing *unstructured.Unstructured) {
	path := []string{"logging", "accessLog", "file", "path"}
	on := c.Annotations[accessLogAnnotation] == "enabled"
	if on {
		spec["logging"] = map[string]any{"accessLog": map[string]any{"file": map[string]any{"path": accessLogPath}}}
	}
	if existing != nil {
		live, _, err := unstructured.NestedString(existing.Object, append([]string{"spec"}, path...)...)
		if on = on || err == nil && live == accessLogPath; on && c.Annotations[accessLogAnnotation] != "enabled" {
			// A log without a path would be refused.
			path = path[:1]
		}
	}
	if on {
		o.Owned = append(o.Owned, append([]string{"spec"}, path...))
	}
}

// Route is one of a virtual router, before it is written in the form of a version.
type Route struct {
	Name string
	// Priority is 0 where there is only one.
	Priority int64
	// Headers are the conditions, in the form of both versions.
	Headers []any
	Traffic router.Traffic
}

// RoutesOf returns one route or, for an A/B test, one for each match and one for all other requests.
func RoutesOf(c *v1beta1.Canary, name string, t router.Traffic) ([]Route, error) {
	matches, err := matchesOf(c)
	if err != nil {
		return nil, err
	}
	if !t.Matched {
		return []Route{{Name: name, Traffic: t}}, nil
	}
	var routes []Route
	for i, headers := range matches {
		r := Route{Name: name + "-a", Priority: int64(matchedPriority + i), Headers: headers, Traffic: t}
		if i > 0 {
			r.Name = fmt.Sprintf("%s-%d", r.Name, i)
		}
		routes = append(routes, r)
	}
	return append(routes, Route{Name: name + "-b", Priority: defaultPriority, Traffic: router.Traffic{Primary: 100}}), nil
}

// matchesOf returns the headers that a request has to have for each match of the analysis, sorted by name, so that two
// renderings are equal.
func matchesOf(c *v1beta1.Canary) ([][]any, error) {
	const field = "spec.analysis.match"
	match := c.GetAnalysis().Match
	if most := defaultPriority - matchedPriority; len(match) > most {
		return nil, &router.FieldError{Field: field, Message: fmt.Sprintf("has %d entries, and there is room for %d: remove some", len(match), most)}
	}
	if err := (router.Conditions{System: "App Mesh"}).Check(c); err != nil {
		return nil, err
	}
	var all [][]any
	for _, m := range match {
		var headers []any
		for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
			header := map[string]any{"name": name}
			if value := matcher(m.Headers[name]); value != nil {
				header["match"] = value
			}
			headers = append(headers, header)
		}
		all = append(all, headers)
	}
	return all, nil
}

// matcher is nil for a header that only has to be there.
func matcher(m v1beta1.StringMatch) map[string]any {
	for form, value := range map[string]string{"exact": m.Exact, "prefix": m.Prefix, "suffix": m.Suffix, "regex": m.Regex} {
		if value != "" {
			return map[string]any{form: value}
		}
	}
	return nil
}

// Retries is the policy of a Canary, before it is written in the form of a version.
type Retries struct {
	// Timeout is that of each try.
	Timeout time.Duration
	most    int64
	// http and tcp are what is tried again.
	http, tcp []any
}

// RetriesOf returns nil where the Canary asks for none. An event that App Mesh doesn't know would have the object refused, and
// those of connections are in a list of their own.
func RetriesOf(c *v1beta1.Canary) (*Retries, error) {
	policy := c.Spec.Service.Retries
	if policy == nil {
		return nil, nil
	}
	r := &Retries{Timeout: 250 * time.Millisecond, most: max(1, int64(policy.Attempts))}
	if policy.PerTryTimeout != "" {
		var err error
		if r.Timeout, err = Duration("spec.service.retries.perTryTimeout", policy.PerTryTimeout); err != nil {
			return nil, err
		}
	}
	for event := range strings.SplitSeq(policy.RetryOn, ",") {
		switch event = strings.TrimSpace(event); event {
		case "":
		case "server-error", "gateway-error", "client-error", "stream-error":
			r.http = append(r.http, event)
		case "connection-error":
			r.tcp = append(r.tcp, event)
		default:
			return nil, &router.FieldError{Field: "spec.service.retries.retryOn", Message: fmt.Sprintf("App Mesh has no event %q: use "+
				"server-error, gateway-error, client-error, stream-error or connection-error", event)}
		}
	}
	if len(r.http)+len(r.tcp) == 0 {
		r.http = []any{"gateway-error"}
	}
	return r, nil
}

// Render writes the policy with the form that a version has for its timeout.
func (r *Retries) Render(timeoutField string, timeout any) map[string]any {
	policy := map[string]any{timeoutField: timeout, "maxRetries": r.most}
	if len(r.http) > 0 {
		policy["httpRetryEvents"] = r.http
	}
	if len(r.tcp) > 0 {
		policy["tcpRetryEvents"] = r.tcp
	}
	return policy
}

// Duration reads that of a field of the Canary.
func Duration(field, text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, &router.FieldError{Field: field, Message: fmt.Sprintf("%q is no duration: write it like 15s", text)}
	}
	return d, nil
}

// Targets returns both sides, each in the form that a version has for a node.
func Targets(c *v1beta1.Canary, t router.Traffic, node func(name string) (field string, value any)) []any {
	names := router.NamesOf(c)
	var all []any
	add := func(name string, weight int32) {
		field, value := node(name)
		all = append(all, map[string]any{field: value, "weight": int64(weight)})
	}
	// Users' tools have long seen the canary first.
	add(names.Canary, t.Canary)
	add(names.Primary, t.Primary)
	return all
}

// Read takes the weights from the first route of an object, by the names of the nodes.
func Read(c *v1beta1.Canary, r router.Ref, live router.Live, nameOf func(target map[string]any) string, kinds ...string) (router.Observed, error) {
	o, err := router.MustGet(live, r)
	if err != nil {
		return router.Observed{}, err
	}
	routes, _, err := unstructured.NestedSlice(o.Object, "spec", "routes")
	if err != nil || len(routes) == 0 {
		return router.Observed{}, fmt.Errorf("%s %w: it has no routes", r, router.ErrUnreadable)
	}
	first, _ := routes[0].(map[string]any) //nolint:errcheck // what is no object has no targets
	var all []any
	for _, kind := range kinds {
		weighted, _, err := unstructured.NestedSlice(first, kind, "action", "weightedTargets")
		if err != nil {
			return router.Observed{}, fmt.Errorf("%s %w: %w", r, router.ErrUnreadable, err)
		}
		for _, item := range weighted {
			if target, ok := item.(map[string]any); ok {
				all = append(all, map[string]any{"name": nameOf(target), "weight": target["weight"]})
			}
		}
	}
	names, weights := router.NamesOf(c), router.ServiceWeights(all, "name")
	traffic, err := router.Split(r, weights[names.Primary], weights[names.Canary])
	traffic.Matched = len(routes) > 1
	return router.Observed{Traffic: traffic, Settled: true}, err
}
