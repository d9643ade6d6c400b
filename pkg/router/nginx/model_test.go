package nginx_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"

	"flagger.app/flagger/pkg/router/nginx"
)

// The model: which Service ingress-nginx sends a request to, by what its documentation says of Ingresses and of the annotations
// that make one a canary of another.
//
// https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations/#canary

// request is what ingress-nginx looks at.
type request struct {
	host, path       string
	headers, cookies map[string]string
	// draw is what it draws for a weight, at least 0 and less than 1.
	draw float64
}

func (r request) header(name string) (string, bool) {
	for key, value := range r.headers {
		if strings.EqualFold(key, name) {
			return value, true
		}
	}
	return "", false
}

// controller is an ingress-nginx that was started with a prefix of annotations, and the Ingresses of its class.
type controller struct {
	prefix    string
	ingresses []*networkingv1.Ingress
}

func (k controller) get(o *networkingv1.Ingress, key string) string {
	return o.Annotations[k.prefix+"/"+key]
}

func (k controller) isCanary(o *networkingv1.Ingress) bool { return k.get(o, "canary") == "true" }

// location is one path of a host and the Service behind it.
type location struct {
	host, path string
	kind       networkingv1.PathType
	service    string
	of         *networkingv1.Ingress
}

func locations(o *networkingv1.Ingress) []location {
	var all []location
	if o.Spec.DefaultBackend != nil {
		all = append(all, location{kind: "default", service: serviceOf(*o.Spec.DefaultBackend), of: o})
	}
	for _, rule := range o.Spec.Rules {
		if rule.HTTP == nil {
			continue
		}
		for _, path := range rule.HTTP.Paths {
			all = append(all, location{rule.Host, path.Path, *path.PathType, serviceOf(path.Backend), o})
		}
	}
	return all
}

func serviceOf(backend networkingv1.IngressBackend) string {
	if backend.Service == nil {
		return ""
	}
	return backend.Service.Name
}

// rank is how well a location fits a request, 0 if it doesn't: an exact path before the longest prefix, any path of the host
// before a default backend.
func (l location) rank(r request) int {
	const host, exact = 1000, 500
	switch {
	case l.kind == "default":
		return 1
	case l.host != r.host:
		return 0
	case l.kind == networkingv1.PathTypeExact && l.path == r.path:
		return host + exact
	case l.kind == networkingv1.PathTypeExact:
		return 0
	case l.path == "/" || l.path == r.path || strings.HasPrefix(r.path, strings.TrimSuffix(l.path, "/")+"/"):
		return host + len(l.path)
	default:
		return 0
	}
}

// serves returns the Service that gets a request. Paths come from Ingresses that are no canaries; a canary Ingress has a say
// where it has the same host and path.
func (k controller) serves(t testing.TB, r request) (service string, main location) {
	t.Helper()
	best := 0
	for _, o := range k.ingresses {
		if k.isCanary(o) {
			continue
		}
		for _, l := range locations(o) {
			switch rank := l.rank(r); {
			case rank > best:
				main, best = l, rank
			case rank == best && rank > 0:
				t.Fatalf("Ingresses %s and %s have the same host and path: the controller refuses the second one", main.of.Name, o.Name)
			}
		}
	}
	if best == 0 {
		return "", main
	}
	canary, ok := k.canaryOf(t, main)
	if ok && canary.service != main.service && k.ledToCanary(t, canary.of, r) {
		return canary.service, main
	}
	return main.service, main
}

func (k controller) canaryOf(t testing.TB, main location) (found location, ok bool) {
	t.Helper()
	for _, o := range k.ingresses {
		if !k.isCanary(o) {
			continue
		}
		for _, l := range locations(o) {
			if l.host != main.host || l.path != main.path || l.kind != main.kind {
				continue
			}
			if ok {
				t.Fatalf("Ingresses %s and %s are both canaries of %s%s: there is room for one", found.of.Name, o.Name, main.host, main.path)
			}
			found, ok = l, true
		}
	}
	return found, ok
}

// ledToCanary is the documented order of the rules of a canary: header, cookie, weight. A rule that says neither yes nor no leaves
// it to the next one.
func (k controller) ledToCanary(t testing.TB, o *networkingv1.Ingress, r request) bool {
	t.Helper()
	if yes, decided := k.byHeader(t, o, r); decided {
		return yes
	}
	switch r.cookies[k.get(o, "canary-by-cookie")] {
	case "always":
		return true
	case "never":
		return false
	}
	weight, total := k.number(t, o, "canary-weight", 0), k.number(t, o, "canary-weight-total", 100)
	return int(r.draw*float64(total)) < weight
}

// byHeader: without a value or a pattern the header says always or never. With a value, a pattern counts for nothing. What they
// don't fit is as if it was not there.
func (k controller) byHeader(t testing.TB, o *networkingv1.Ingress, r request) (yes, decided bool) {
	t.Helper()
	name := k.get(o, "canary-by-header")
	value, ok := r.header(name)
	if name == "" || !ok {
		return false, false
	}
	exact, pattern := k.get(o, "canary-by-header-value"), k.get(o, "canary-by-header-pattern")
	switch {
	case exact != "":
		return true, value == exact
	case pattern != "":
		return true, regexp.MustCompile(pattern).MatchString(value)
	default:
		return value == "always", value == "always" || value == "never"
	}
}

func (k controller) number(t testing.TB, o *networkingv1.Ingress, key string, unset int) int {
	t.Helper()
	text := k.get(o, key)
	if text == "" {
		return unset
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("annotation %s: %v", key, err)
	}
	return n
}

// The rows are the statements of the documentation, one by one. What the other tests prove is worth as much as these.
func TestModel(t *testing.T) {
	const host, path = "app.example.com", "/"
	annotated := func(pairs ...string) map[string]string {
		all := map[string]string{nginx.DefaultPrefix + "/canary": "true"}
		for i := 0; i < len(pairs); i += 2 {
			all[nginx.DefaultPrefix+"/canary-"+pairs[i]] = pairs[i+1]
		}
		return all
	}
	with := func(name, value string) map[string]string { return map[string]string{name: value} }
	for name, c := range map[string]struct {
		annotations map[string]string
		request     request
		canary      bool
	}{
		"no rule":                            {annotated(), request{}, false},
		"weight 0":                           {annotated("weight", "0"), request{}, false},
		"the whole weight":                   {annotated("weight", "100"), request{draw: 0.999}, true},
		"within the weight":                  {annotated("weight", "30"), request{draw: 0.299}, true},
		"beyond the weight":                  {annotated("weight", "30"), request{draw: 0.301}, false},
		"weight of another total":            {annotated("weight", "30", "weight-total", "1000"), request{draw: 0.031}, false},
		"header always":                      {annotated("by-header", "X-A"), request{headers: with("x-a", "always")}, true},
		"header never before weight":         {annotated("by-header", "X-A", "weight", "100"), request{headers: with("X-A", "never")}, false},
		"header of any value":                {annotated("by-header", "X-A"), request{headers: with("X-A", "1")}, false},
		"header of any value leaves weight":  {annotated("by-header", "X-A", "weight", "100"), request{headers: with("X-A", "1")}, true},
		"value":                              {annotated("by-header", "X-A", "by-header-value", "1"), request{headers: with("X-A", "1")}, true},
		"always is no value":                 {annotated("by-header", "X-A", "by-header-value", "1"), request{headers: with("X-A", "always")}, false},
		"never is no value either":           {annotated("by-header", "X-A", "by-header-value", "1", "weight", "100"), request{headers: with("X-A", "never")}, true},
		"pattern":                            {annotated("by-header", "X-A", "by-header-pattern", "^in.*r$"), request{headers: with("X-A", "insider")}, true},
		"value before pattern":               {annotated("by-header", "X-A", "by-header-value", "1", "by-header-pattern", ".*"), request{headers: with("X-A", "2")}, false},
		"cookie always":                      {annotated("by-cookie", "beta"), request{cookies: with("beta", "always")}, true},
		"cookie never before weight":         {annotated("by-cookie", "beta", "weight", "100"), request{cookies: with("beta", "never")}, false},
		"cookie of any value leaves weight":  {annotated("by-cookie", "beta", "weight", "100"), request{cookies: with("beta", "1")}, true},
		"header before cookie":               {annotated("by-header", "X-A", "by-cookie", "beta"), request{headers: with("X-A", "never"), cookies: with("beta", "always")}, false},
		"header that says nothing to cookie": {annotated("by-header", "X-A", "by-cookie", "beta"), request{headers: with("X-A", "1"), cookies: with("beta", "always")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			main, canary := ingressTo("main", host, path, "app"), ingressTo("canary", host, path, "app-canary")
			canary.Annotations = c.annotations
			k := controller{nginx.DefaultPrefix, []*networkingv1.Ingress{main, canary}}
			c.request.host, c.request.path = host, path
			if got, _ := k.serves(t, c.request); got == "app-canary" != c.canary {
				t.Errorf("served by %s", got)
			}
		})
	}
}

func ingressTo(name, host, path, service string) *networkingv1.Ingress {
	kind := networkingv1.PathTypePrefix
	o := &networkingv1.Ingress{Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{Host: host}}}}
	o.Name = name
	o.Spec.Rules[0].HTTP = &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
		Path: path, PathType: &kind, Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: service}},
	}}}
	return o
}

func (r request) String() string {
	return fmt.Sprintf("%s%s headers %v cookies %v", r.host, r.path, r.headers, r.cookies)
}
