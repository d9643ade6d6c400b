package conformance

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// Update is whether the test was run with -update: files that it compares with are to be written instead.
func Update() bool { return *update }

// scenario is one use of a provider.
type scenario struct {
	name    string
	shape   func(*v1beta1.Canary)
	traffic router.Traffic
}

// cookies of a run, as the status holds them.
const (
	canaryCookie   = "flagger-cookie=aBcDeFgHiJ"
	primaryCookie  = "primary-cookie=kLmNoPqRsT"
	previousCookie = "flagger-cookie=uVwXyZaBcD"
)

// scenarios lists what the provider can do, by its abilities.
func (c *Case) scenarios() []scenario {
	can := c.Provider.Abilities()
	all := []scenario{
		{"idle", nil, router.Traffic{Primary: 100}},
		{"blue-green", blueGreen, router.Traffic{Canary: 100}},
	}
	add := func(able bool, s scenario) {
		if able {
			all = append(all, s)
		}
	}
	add(can.Weights, scenario{"progressive", nil, router.Traffic{Primary: 70, Canary: 30}})
	add(can.Weights, scenario{"full-service", fullService, router.Traffic{Primary: 60, Canary: 40}})
	add(can.Match, scenario{"ab-testing", c.abTesting, router.Traffic{Canary: 100, Matched: true}})
	add(can.Match, scenario{"ab-testing-everybody", c.abTesting, router.Traffic{Canary: 100}})
	add(can.Match, scenario{"ab-testing-full-service", func(canary *v1beta1.Canary) {
		fullService(canary)
		c.abTesting(canary)
	}, router.Traffic{Canary: 100, Matched: true}})
	always := func(canary *v1beta1.Canary) {
		canary.Spec.Analysis.CanaryMatch = insiders()
	}
	add(can.CanaryMatch, scenario{"header-beside-weights", always, router.Traffic{Primary: 70, Canary: 30}})
	add(can.CanaryMatch, scenario{"header-beside-weights-full-service", func(c *v1beta1.Canary) {
		fullService(c)
		always(c)
	}, router.Traffic{Primary: 70, Canary: 30}})
	add(can.CanaryMatch && can.SessionAffinity, scenario{"header-beside-affinity", func(c *v1beta1.Canary) {
		affinity("")(c)
		always(c)
	}, router.Traffic{Primary: 90, Canary: 10, Cookies: router.Cookies{Canary: canaryCookie}}})
	add(can.CanaryMatch, scenario{"header-beside-weights-idle", always, router.Traffic{Primary: 100}})
	add(can.Mirror, scenario{"mirror", mirror(0), router.Traffic{Primary: 100, Mirror: true}})
	add(can.MirrorWeight, scenario{"mirror-weight", mirror(25), router.Traffic{Primary: 100, Mirror: true}})
	add(can.Mirror, scenario{"mirror-full-service", func(c *v1beta1.Canary) {
		fullService(c)
		mirror(0)(c)
	}, router.Traffic{Primary: 100, Mirror: true}})
	add(can.SessionAffinity, scenario{"affinity", affinity(""), router.Traffic{
		Primary: 90, Canary: 10, Cookies: router.Cookies{Canary: canaryCookie},
	}})
	add(can.PrimaryCookie, scenario{"affinity-primary", affinity("primary-cookie"), router.Traffic{
		Primary: 90, Canary: 10, Cookies: router.Cookies{Canary: canaryCookie, Primary: primaryCookie},
	}})
	add(can.SessionAffinity, scenario{"affinity-full-service", func(c *v1beta1.Canary) {
		fullService(c)
		affinity("")(c)
	}, router.Traffic{Primary: 90, Canary: 10, Cookies: router.Cookies{Canary: canaryCookie}}})
	add(can.SessionAffinity, scenario{"affinity-over", affinity(""), router.Traffic{
		Primary: 100, Cookies: router.Cookies{Previous: previousCookie},
	}})
	add(can.SessionAffinity, scenario{"affinity-over-full-service", func(c *v1beta1.Canary) {
		fullService(c)
		affinity("")(c)
	}, router.Traffic{Primary: 100, Cookies: router.Cookies{Previous: previousCookie}}})
	add(can.TCP && can.Weights, scenario{"tcp", tcp, router.Traffic{Primary: 70, Canary: 30}})
	return all
}

func blueGreen(c *v1beta1.Canary) {
	c.Spec.Analysis = &v1beta1.CanaryAnalysis{Interval: "1m", Threshold: 5, Iterations: 10}
}

func tcp(c *v1beta1.Canary) {
	c.Spec.Service.AppProtocol = "TCP"
	c.Spec.Service.Match = []v1beta1.HTTPMatchRequest{{Port: 9898}}
}

func (c *Case) abTesting(canary *v1beta1.Canary) {
	blueGreen(canary)
	canary.Spec.Analysis.Match = c.Match
	if len(c.Match) > 0 {
		return
	}
	canary.Spec.Analysis.Match = insiders()
}

// insiders are conditions that all accept who match requests at all.
func insiders() []v1beta1.AnalysisMatch {
	return []v1beta1.AnalysisMatch{
		{Headers: map[string]v1beta1.StringMatch{
			"x-canary": {Exact: "insider"},
			"x-beta":   {Regex: ".*yes.*"},
			"accept":   {Exact: "text/html"},
		}},
		{QueryParams: map[string]v1beta1.StringMatch{"canary": {Exact: "always"}, "beta": {Exact: "1"}}},
	}
}

func mirror(weight int32) func(*v1beta1.Canary) {
	return func(c *v1beta1.Canary) {
		c.Spec.Analysis.Mirror = true
		c.Spec.Analysis.MirrorWeight = weight
	}
}

func affinity(primary string) func(*v1beta1.Canary) {
	return func(c *v1beta1.Canary) {
		c.Spec.Analysis.SessionAffinity = &v1beta1.SessionAffinity{
			CookieName: "flagger-cookie", PrimaryCookieName: primary, MaxAge: 3600,
			Domain: "example.com", HttpOnly: true, Partitioned: true, Path: "/", SameSite: "Strict", Secure: true,
		}
	}
}

// fullService sets everything that any provider reads from spec.service, in a form that all of them accept.
func fullService(c *v1beta1.Canary) {
	credentials := true
	port := int32(9797)
	s := &c.Spec.Service
	s.Name = "frontend"
	s.Hosts = []string{"app.example.com", "www.example.com"}
	s.Timeout, s.BackendTimeout = "15s", "5s"
	s.Match = []v1beta1.HTTPMatchRequest{
		{URI: &v1beta1.StringMatch{Prefix: "/api"}, Method: &v1beta1.StringMatch{Exact: "GET"}},
		{
			URI:         &v1beta1.StringMatch{Exact: "/login"},
			Headers:     map[string]v1beta1.StringMatch{"x-b": {Exact: "2"}, "x-a": {Regex: "1+"}},
			QueryParams: map[string]v1beta1.StringMatch{"q": {Exact: "z"}, "p": {Regex: "y+"}},
		},
	}
	s.Rewrite = &v1beta1.HTTPRewrite{URI: "/v2", Authority: "internal.example.com"}
	s.Retries = &v1beta1.HTTPRetry{Attempts: 3, PerTryTimeout: "1s", RetryOn: "gateway-error,connect-failure,refused-stream"}
	s.Headers = &v1beta1.Headers{
		Request: &v1beta1.HeaderOperations{
			Set: map[string]string{"x-one": "1"}, Add: map[string]string{"x-three": "3", "x-two": "2"}, Remove: []string{"x-drop"},
		},
		Response: &v1beta1.HeaderOperations{Add: map[string]string{"x-answer": "42"}},
	}
	s.CorsPolicy = &v1beta1.CorsPolicy{
		AllowOrigin: []string{"https://example.com"}, AllowMethods: []string{"GET", "POST"},
		AllowHeaders: []string{"content-type"}, ExposeHeaders: []string{"x-answer"}, MaxAge: "24h",
		AllowCredentials: &credentials,
	}
	s.Mirror = []v1beta1.HTTPRequestMirrorFilter{{
		BackendRef: v1beta1.BackendObjectReference{Name: "shadow", Port: &port},
	}}
	s.TrafficPolicy = &v1beta1.TrafficPolicy{TLS: &v1beta1.TLSSettings{Mode: "ISTIO_MUTUAL"}}
}

// testGolden compares what each scenario renders with testdata/<scenario>.golden.yaml.
func (c *Case) testGolden(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range c.scenarios() {
		file := filepath.Join("testdata", s.name+".golden.yaml")
		seen[file] = true
		t.Run(s.name, func(t *testing.T) { c.compareGolden(t, s, file) })
	}
	stale, err := filepath.Glob(filepath.Join("testdata", "*.golden.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range stale {
		if !seen[file] {
			t.Errorf("%s belongs to no scenario: delete it", file)
		}
	}
}

func (c *Case) compareGolden(t *testing.T, s scenario, file string) {
	canary := c.canary(s.shape)
	objects, err := c.Provider.Render(canary, s.traffic, c.store(t, canary))
	if err != nil {
		t.Fatal(err)
	}
	var documents []string
	for _, o := range objects {
		raw, err := yaml.Marshal(o.Wanted.Object)
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, string(raw))
	}
	got := strings.Join(documents, "---\n")
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v: run this test with -update and review the result", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}
