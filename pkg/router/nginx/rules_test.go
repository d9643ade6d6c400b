package nginx_test

import (
	"regexp"
	"strconv"
	"testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/nginx"
)

// request is what ingress-nginx looks at, with the number from 1 to 100 that it draws.
type request struct {
	headers, cookies map[string]string
	draw             int
}

// goesToCanary is the documented order of the canary annotations: header, cookie, weight.
func goesToCanary(t *testing.T, annotations map[string]string, r request) bool {
	t.Helper()
	get := func(key string) string { return annotations[nginx.DefaultPrefix+"/"+key] }
	if get("canary") != "true" {
		t.Fatal("the Ingress is no canary: the controller refuses a second one for the same host and path")
	}
	if value, ok := r.headers[get("canary-by-header")]; ok {
		exact, pattern := get("canary-by-header-value"), get("canary-by-header-pattern")
		switch {
		case exact != "":
			if value == exact {
				return true
			}
		case pattern != "":
			if regexp.MustCompile(pattern).MatchString(value) {
				return true
			}
		case value == "always":
			return true
		case value == "never":
			return false
		}
	}
	switch r.cookies[get("canary-by-cookie")] {
	case "always":
		return true
	case "never":
		return false
	}
	weight, err := strconv.Atoi(get("canary-weight"))
	if err != nil {
		t.Fatal(err)
	}
	total := 100
	if text := get("canary-weight-total"); text != "" {
		if total, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	return r.draw*total <= weight*100
}

// share is how many of 100 requests get to the canary.
func share(t *testing.T, c *v1beta1.Canary, traffic router.Traffic, annotations map[string]string, r request) int {
	t.Helper()
	of := source(t, c)
	of.SetAnnotations(annotations)
	o, n := rendered(t, nginx.Options{}, c, traffic, of), 0
	for r.draw = 1; r.draw <= 100; r.draw++ {
		if goesToCanary(t, o.Annotations, r) {
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
