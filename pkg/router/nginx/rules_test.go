package nginx_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/nginx"
)

// seen is what ingress-nginx sees: the Ingress of the user with these annotations, and the canary Ingress.
func seen(t *testing.T, options nginx.Options, c *v1beta1.Canary, traffic router.Traffic, annotations map[string]string) controller {
	t.Helper()
	of, main := source(t, c), &networkingv1.Ingress{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(of.Object, main); err != nil {
		t.Fatal(err)
	}
	of.SetAnnotations(annotations)
	main.Annotations = annotations
	k := controller{nginx.DefaultPrefix, []*networkingv1.Ingress{rendered(t, options, c, traffic, of), main}}
	if options.AnnotationsPrefix != "" {
		k.prefix = options.AnnotationsPrefix
	}
	return k
}

// share is how many of 100 requests get to the canary.
func share(t *testing.T, c *v1beta1.Canary, traffic router.Traffic, annotations map[string]string, r request) int {
	t.Helper()
	r.host, r.path = "app.example.com", "/api/v1"
	return seen(t, nginx.Options{}, c, traffic, annotations).share(t, r)
}

func (k controller) share(t *testing.T, r request) (n int) {
	t.Helper()
	for i := range 100 {
		r.draw = float64(i)/100 + 0.005
		if service, _ := k.serves(t, r); service == "podinfo-canary" {
			n++
		}
	}
	return n
}

func TestShareOfEachWeight(t *testing.T) {
	// The total is left from an Ingress that was a canary itself.
	annotations := map[string]string{"nginx.ingress.kubernetes.io/canary-weight-total": "1000"}
	for weight := int32(0); weight <= 100; weight++ {
		traffic := router.Traffic{Primary: 100 - weight, Canary: weight}
		if got := share(t, canary(), traffic, annotations, request{}); got != int(weight) {
			t.Errorf("%s: %d of 100 requests", traffic, got)
		}
	}
}

func TestMatchesOfAnABTest(t *testing.T) {
	test := router.Traffic{Canary: 100, Matched: true}
	insider, beta := map[string]string{"x-canary": "insider"}, map[string]string{"beta": "always"}
	for name, r := range map[string]struct {
		request
		traffic router.Traffic
		want    int
	}{
		"nobody yet":     {request{headers: insider, cookies: beta}, router.Traffic{Primary: 100, Matched: true}, 0},
		"header":         {request{headers: insider}, test, 100},
		"cookie":         {request{cookies: beta}, test, 100},
		"other value":    {request{headers: map[string]string{"x-canary": "x"}}, test, 0},
		"anybody":        {request{}, test, 0},
		"everybody":      {request{}, router.Traffic{Canary: 100}, 100},
		"after the test": {request{headers: insider, cookies: beta}, router.Traffic{Primary: 100}, 0},
	} {
		if got := share(t, canary(abTesting), r.traffic, nil, r.request); got != r.want {
			t.Errorf("%s: %d of 100 requests, want %d", name, got, r.want)
		}
	}
}

func TestFormsOfAHeader(t *testing.T) {
	for name, test := range map[string]struct {
		m          v1beta1.StringMatch
		yes, never string
	}{
		"exact":  {v1beta1.StringMatch{Exact: "a.c"}, "a.c", "abc"},
		"regex":  {v1beta1.StringMatch{Regex: "^a.c$"}, "abc", "abcd"},
		"prefix": {v1beta1.StringMatch{Prefix: "a."}, "a.c", "xa.c"},
		"suffix": {v1beta1.StringMatch{Suffix: ".c"}, "a.c", "a.cx"},
	} {
		c := canary(abTesting)
		c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{{Headers: map[string]v1beta1.StringMatch{"x": test.m}}}
		for value, want := range map[string]int{test.yes: 100, test.never: 0} {
			r := request{headers: map[string]string{"x": value}}
			if got := share(t, c, router.Traffic{Canary: 100, Matched: true}, nil, r); got != want {
				t.Errorf("%s: %d of 100 requests with %q, want %d", name, got, value, want)
			}
		}
	}
}

// A rule that the user gave the Ingress leads to the canary at every step of a weighted run, and never to one that is at rest.
func TestHeaderBesideWeights(t *testing.T) {
	annotations := map[string]string{
		"nginx.ingress.kubernetes.io/canary-by-header": "X-Debug", "nginx.ingress.kubernetes.io/canary-by-header-value": "1",
	}
	debug := request{headers: map[string]string{"X-Debug": "1"}}
	for weight := int32(0); weight <= 100; weight += 10 {
		traffic, want := router.Traffic{Primary: 100 - weight, Canary: weight}, 100
		if weight == 0 {
			want = 0
		}
		if got := share(t, canary(), traffic, annotations, debug); got != want {
			t.Errorf("%s: %d of 100 requests with the header, want %d", traffic, got, want)
		}
		if got := share(t, canary(), traffic, annotations, request{}); got != int(weight) {
			t.Errorf("%s: %d of 100 requests without the header", traffic, got)
		}
	}
}

// user is somebody who sends any request, to paths of this application and of others.
type user struct{ *rand.Rand }

func (u user) one(of ...string) string { return of[u.IntN(len(of))] }

func (u user) value() string {
	return u.one("", "always", "never", "insider", "xinsider", "insiders", "in.ider", "1")
}

func (u user) request() request {
	r := request{
		host:    u.one("app.example.com", "www.example.com", "empty.example.com", "other.example.com"),
		path:    u.one("/", "/api", "/api/v1", "/apis", "/static/x.css", "/files/1", "/login", "/login/now", "/else"),
		headers: map[string]string{}, cookies: map[string]string{},
	}
	for _, name := range []string{"X-Canary", "x-canary", "X-Debug", "Accept"} {
		if u.IntN(2) == 0 {
			r.headers[strings.ToLower(name)] = u.value()
		}
	}
	for _, name := range []string{"beta", "session"} {
		if u.IntN(2) == 0 {
			r.cookies[name] = u.value()
		}
	}
	return r
}

// match is an A/B test by a header, a cookie or both.
func (u user) match() []v1beta1.AnalysisMatch {
	forms := []v1beta1.StringMatch{{Exact: "in.ider"}, {Exact: "always"}, {Regex: "^in.ider$"}, {Prefix: "in.i"}, {Suffix: "n.ider"}, {}}
	header := v1beta1.AnalysisMatch{Headers: map[string]v1beta1.StringMatch{"X-Canary": forms[u.IntN(len(forms))]}}
	cookie := v1beta1.AnalysisMatch{Headers: map[string]v1beta1.StringMatch{"cookie": {Exact: "beta"}}}
	return [][]v1beta1.AnalysisMatch{{header}, {cookie}, {header, cookie}, {cookie, header}}[u.IntN(4)]
}

// picks is what a match means, said without annotations.
func picks(match []v1beta1.AnalysisMatch, r request) bool {
	for _, m := range match {
		for name, want := range m.Headers {
			if name == "cookie" {
				if r.cookies[want.Exact] == "always" {
					return true
				}
				continue
			}
			value, ok := r.header(name)
			fits := strings.HasPrefix(value, want.Prefix) && strings.HasSuffix(value, want.Suffix) &&
				(want.Exact == "" || value == want.Exact) && regexp.MustCompile(want.Regex).MatchString(value)
			if ok && fits {
				return true
			}
		}
	}
	return false
}

// Whoever sends whatever: requests for other applications stay with them, each weight gets its share, users of an A/B test get
// to their side, and the rule that a user gave the Ingress leads where it says.
func TestAnyRequest(t *testing.T) {
	for seed := range uint64(60) {
		u := user{rand.New(rand.NewPCG(seed, 0))}
		options := nginx.Options{AnnotationsPrefix: u.one("", "custom.example.com")}
		prefix := options.AnnotationsPrefix
		if prefix == "" {
			prefix = nginx.DefaultPrefix
		}
		c, annotations := canary(), map[string]string{}
		weight := int32(u.IntN(101))
		traffic := router.Traffic{Primary: 100 - weight, Canary: weight}
		switch u.IntN(3) {
		case 0:
			c.Spec.Analysis.Iterations, c.Spec.Analysis.Match = 5, u.match()
			traffic = []router.Traffic{{Primary: 100, Matched: true}, {Canary: 100, Matched: true}, {Primary: 100}, {Canary: 100}}[u.IntN(4)]
		case 1:
			annotations[prefix+"/canary-by-header"], annotations[prefix+"/canary-by-header-value"] = "X-Debug", "1"
		}
		// Leftovers of an Ingress that was a canary itself must not count.
		annotations[prefix+"/canary-weight"], annotations[prefix+"/canary-weight-total"] = "77", "500"
		k := seen(t, options, c, traffic, annotations)
		for range 20 {
			r := u.request()
			_, main := k.serves(t, r)
			want := int(traffic.Canary)
			debug, _ := r.header("X-Debug")
			switch {
			case main.service != "podinfo":
				want = 0
			case traffic.Matched && !picks(c.Spec.Analysis.Match, r):
				want = 0
			case traffic.Canary > 0 && debug == "1" && annotations[prefix+"/canary-by-header"] != "":
				want = 100
			}
			if got := k.share(t, r); got != want {
				t.Fatalf("seed %d, %s, match %v: %d of 100 requests %s get to the canary, want %d", seed, traffic,
					describe(c.Spec.Analysis.Match), got, r, want)
			}
			for i := range 10 {
				r.draw = float64(i) / 10
				if service, _ := k.serves(t, r); service != main.service && service != "podinfo-canary" {
					t.Fatalf("seed %d: request %s gets to %s instead of %s", seed, r, service, main.service)
				}
			}
		}
	}
}

func describe(match []v1beta1.AnalysisMatch) string { return fmt.Sprintf("%+v", match) }

// Two applications behind one Ingress have a rollout each, at the same time. ingress-nginx knows one canary for a host and path, which the
// model insists on: in Flagger both copies had all paths.
func TestCanariesShareAnIngress(t *testing.T) {
	login := func(c *v1beta1.Canary) { c.Name, c.UID, c.Spec.TargetRef.Name = "login", "77", "login" }
	first := conformance.NewBench(t, nginx.New(nginx.Options{}), canary())
	first.Put(source(t, first.Canary))
	second := first.Of(canary(login))
	first.Apply(router.Traffic{Primary: 100})
	if _, err := second.TryApply(router.Traffic{Primary: 100}); err == nil || !strings.Contains(err.Error(), v1beta1.OwnPathsAnnotation) {
		t.Fatalf("Apply() of the second one: %v, want what to do", err)
	}
	sharing(first.Canary)
	sharing(second.Canary)
	main := &networkingv1.Ingress{}
	typed := func(o *unstructured.Unstructured, into *networkingv1.Ingress) *networkingv1.Ingress {
		t.Helper()
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, into); err != nil {
			t.Fatal(err)
		}
		return into
	}
	typed(source(t, first.Canary), main)
	for _, weights := range [][2]int32{{0, 0}, {30, 0}, {30, 60}, {0, 100}} {
		// The one that was there first keeps its name.
		one := first.Apply(router.Traffic{Primary: 100 - weights[0], Canary: weights[0]})["Ingress edge-canary"]
		two := second.Apply(router.Traffic{Primary: 100 - weights[1], Canary: weights[1]})["Ingress edge-login-canary"]
		k := controller{nginx.DefaultPrefix, []*networkingv1.Ingress{main, typed(one, &networkingv1.Ingress{}), typed(two, &networkingv1.Ingress{})}}
		got := map[string]int{}
		for path, host := range map[string]string{"/api/v1": "app.example.com", "/static/x.css": "app.example.com", "/login/now": "www.example.com", "/x": "www.example.com", "/y": "nowhere"} {
			for i := range 100 {
				service, _ := k.serves(t, request{host: host, path: path, draw: float64(i)/100 + 0.005})
				if strings.HasSuffix(service, "-canary") {
					got[path+" "+service]++
				}
			}
		}
		want := map[string]int{}
		for path, n := range map[string]int32{"/api/v1 podinfo-canary": weights[0], "/x podinfo-canary": weights[0], "/login/now login-canary": weights[1]} {
			if n > 0 {
				want[path] = int(n)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("weights %v, of 100 requests (-want +got):\n%s", weights, diff)
		}
		for i, b := range []*conformance.Bench{first, second} {
			if observed, err := b.Provider.Read(b.Canary, b.Store); err != nil || observed.Traffic.Canary != weights[i] {
				t.Errorf("weights %v: Read() of %s = %+v, %v", weights, b.Canary.Name, observed, err)
			}
		}
	}
	// Whoever does not ask for it any more has all paths again, under the name that is there.
	second.Canary.Annotations = nil
	if o := second.Apply(router.Traffic{Primary: 100})["Ingress edge-login-canary"]; o == nil {
		t.Error("the Ingress has another name")
	}
}
