package metrics

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/metrics/provider"
)

// promServer answers queries by what they contain.
type promServer struct {
	*httptest.Server
	mu      sync.Mutex
	queries []string
}

func newPromServer(t *testing.T, answers map[string]string) *promServer {
	t.Helper()
	p := &promServer{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query().Get("query")
		p.mu.Lock()
		p.queries = append(p.queries, query)
		p.mu.Unlock()
		for part, value := range answers {
			if !strings.Contains(query, part) {
				continue
			}
			switch value {
			case "invalid":
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprint(w, `{"status":"error","errorType":"bad_data","error":"parse error: unknown function"}`)
			case "down":
				w.WriteHeader(http.StatusBadGateway)
			default:
				fmt.Fprintf(w, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,%q]}]}}`, value)
			}
			return
		}
		fmt.Fprint(w, `{"status":"success","data":{"resultType":"vector","result":[]}}`)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *promServer) asked(part string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, q := range p.queries {
		if strings.Contains(q, part) {
			n++
		}
	}
	return n
}

// take returns the queries since the last call, in alphabetical order.
func (p *promServer) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	queries := p.queries
	p.queries = nil
	slices.Sort(queries)
	return queries
}

// store holds templates and Secrets by namespace/name.
type store struct {
	templates map[string]*v1beta1.MetricTemplate
	secrets   map[string]map[string][]byte
	revisions map[string]string
}

func (s store) MetricTemplate(namespace, name string) (*v1beta1.MetricTemplate, error) {
	if t, ok := s.templates[namespace+"/"+name]; ok {
		return t, nil
	}
	return nil, fmt.Errorf("metrictemplate %q not found", name)
}

func (s store) SecretData(_ context.Context, namespace, name string) (map[string][]byte, error) {
	if d, ok := s.secrets[namespace+"/"+name]; ok {
		return d, nil
	}
	return nil, fmt.Errorf("secret %q not found", name)
}

func (s store) LatestRevision(_ context.Context, namespace, name string) (string, error) {
	if r, ok := s.revisions[namespace+"/"+name]; ok {
		return r, nil
	}
	return "", errors.New("not found")
}

func metricTemplate(namespace, name, address, query string) *v1beta1.MetricTemplate {
	t := &v1beta1.MetricTemplate{}
	t.Namespace, t.Name = namespace, name
	t.Spec.Provider = v1beta1.MetricTemplateProvider{Type: "prometheus", Address: address}
	t.Spec.Query = query
	return t
}

func withMetrics(metrics ...v1beta1.CanaryMetric) *v1beta1.Canary {
	return canary(func(c *v1beta1.Canary) { c.Spec.Analysis.Metrics = metrics })
}

func ref(namespace, name string) *v1beta1.CrossNamespaceObjectReference {
	return &v1beta1.CrossNamespaceObjectReference{Namespace: namespace, Name: name}
}

func (s store) evaluator(address string) *Evaluator {
	return &Evaluator{Server: Server{Address: address}, FlagProvider: "istio", Templates: s, Secrets: s, Knative: s, Limit: 5 * time.Minute}
}

func TestRead(t *testing.T) {
	server := newPromServer(t, map[string]string{
		"istio_requests_total": "99.5", "istio_request_duration": "123.7", "inline": "7", "templated_2m_x": "8", "broken": "invalid", "gateway": "down",
	})
	s := store{templates: map[string]*v1beta1.MetricTemplate{
		"test/latency":    metricTemplate("test", "latency", server.URL, "templated_{{ interval }}_{{ variables.v }}"),
		"monitoring/errs": metricTemplate("monitoring", "errs", server.URL, "nothing"),
		"test/broken":     metricTemplate("test", "broken", server.URL, "broken("),
		"test/gateway":    metricTemplate("test", "gateway", server.URL, "gateway"),
	}}
	c := withMetrics(
		v1beta1.CanaryMetric{Name: "request-success-rate"},
		v1beta1.CanaryMetric{Name: "latency", Interval: "2m", TemplateRef: ref("", "latency"), TemplateVariables: map[string]string{"v": "x"}},
		v1beta1.CanaryMetric{Name: "request-duration"},
		v1beta1.CanaryMetric{Name: "mine", Query: "inline"},
		v1beta1.CanaryMetric{Name: "errs", TemplateRef: ref("monitoring", "errs")},
		v1beta1.CanaryMetric{Name: "unset"},
		v1beta1.CanaryMetric{Name: "bad", Query: "broken"},
		v1beta1.CanaryMetric{Name: "badt", TemplateRef: ref("", "broken")},
		v1beta1.CanaryMetric{Name: "gw", TemplateRef: ref("", "gateway")},
		v1beta1.CanaryMetric{Name: "gone", TemplateRef: ref("", "gone")},
		v1beta1.CanaryMetric{Name: "both", Query: "inline", TemplateRef: ref("", "latency"), Interval: "2m", TemplateVariables: map[string]string{"v": "x"}},
	)
	got := s.evaluator(server.URL).Read(t.Context(), c)
	invalid := "invalid query: prometheus at " + server.Listener.Addr().String() + " answered 400 Bad Request: bad_data: parse error: unknown function; correct "
	want := []analysis.Reading{
		{Index: 0, Source: analysis.SuccessRate, State: analysis.Value, Value: 99.5},
		{Index: 1, Source: analysis.Template, State: analysis.Value, Value: 8},
		{Index: 2, Source: analysis.Duration, State: analysis.Value, Value: 123.7},
		{Index: 3, Source: analysis.Inline, State: analysis.Value, Value: 7},
		{Index: 4, Source: analysis.Template, State: analysis.NoData, Cause: "no values found"},
		{Index: 5, Source: analysis.None, State: analysis.Unusable, Cause: "Metric query failed for no usable metrics template and query were configured"},
		{Index: 6, Source: analysis.Inline, State: analysis.Failed, Cause: invalid + "spec.analysis.metrics[6].query"},
		{Index: 7, Source: analysis.Template, State: analysis.Failed, Cause: invalid + "spec.query of MetricTemplate test/broken"},
		{Index: 8, Source: analysis.Template, State: analysis.Failed, Cause: "prometheus at " + server.Listener.Addr().String() + " answered 502 Bad Gateway: (no text); check that the server is up and the address in spec.provider.address of MetricTemplate test/gateway is right"},
		{Index: 9, Source: analysis.Template, State: analysis.Unusable, Cause: `Metric template gone.test error: metrictemplate "gone" not found`},
		{Index: 10, Source: analysis.Inline, State: analysis.Value, Value: 7},
		{Index: 10, Source: analysis.Template, State: analysis.Value, Value: 8},
	}
	for i := range want {
		want[i].Metric, want[i].Provider = c.Spec.Analysis.Metrics[want[i].Index], "istio"
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(analysis.Reading{}, "Query")); diff != "" {
		t.Error(diff)
	}
}

// The names that metrics had in 2019 ask and judge what the names of today do, although the old duration is called seconds:
// its threshold always was in milliseconds.
func TestMetricsOf2019(t *testing.T) {
	server := newPromServer(t, map[string]string{"istio_requests_total": "99.5", "istio_request_duration": "123.7", "vector(1)": "1"})
	e := store{}.evaluator(server.URL)
	e.Read(t.Context(), withMetrics(v1beta1.CanaryMetric{Name: "request-success-rate"}, v1beta1.CanaryMetric{Name: "request-duration"}))
	today := server.take()
	for name, tc := range map[string]struct {
		rate, duration float64
		want           string
	}{
		"kept":     {99, 500, ""},
		"rate":     {99.9, 500, "Halt podinfo-canary.test advancement success rate 99.50% < 99.9%"},
		"duration": {99, 100, "Halt podinfo-canary.test advancement request duration 123ms > 100ms"},
	} {
		t.Run(name, func(t *testing.T) {
			c := withMetrics(
				v1beta1.CanaryMetric{Name: "istio_requests_total", Threshold: tc.rate},
				v1beta1.CanaryMetric{Name: "istio_request_duration_seconds_bucket", Threshold: tc.duration},
			)
			c.Spec.CanaryAnalysis, c.Spec.Analysis = c.Spec.Analysis, nil
			if err := e.Check(t.Context(), c); err != nil {
				t.Error(err)
			}
			server.take()
			got := analysis.Evaluate(analysis.Check{ID: analysis.ID{Name: c.Name, Namespace: c.Namespace, Target: c.Spec.TargetRef.Name}}, e.Read(t.Context(), c))
			if diff := cmp.Diff(today, server.take()); diff != "" {
				t.Errorf("queries (-today +2019):\n%s", diff)
			}
			if got.Message != tc.want || (got.Outcome == analysis.Pass) != (tc.want == "") {
				t.Errorf("got %s %q, want %q", got.Outcome, got.Message, tc.want)
			}
		})
	}
}

func TestReadNothing(t *testing.T) {
	s := store{}
	if got := s.evaluator("").Read(t.Context(), withMetrics()); len(got) != 0 {
		t.Errorf("readings %v", got)
	}
	if got := s.evaluator("").Read(t.Context(), &v1beta1.Canary{}); len(got) != 0 {
		t.Errorf("readings %v", got)
	}
}

// HTTP applications report seconds, readings are in milliseconds.
func TestDurationOfApplicationsIsConverted(t *testing.T) {
	server := newPromServer(t, map[string]string{"http_request_duration_seconds_bucket": "0.25"})
	e := store{}.evaluator(server.URL)
	e.FlagProvider = "kubernetes"
	got := e.Read(t.Context(), withMetrics(v1beta1.CanaryMetric{Name: "request-duration"}))
	if got[0].State != analysis.Value || got[0].Value != 250 {
		t.Errorf("got %+v, want 250", got[0])
	}
}

func TestMetricsServerOfTheCanaryWins(t *testing.T) {
	flag, own := newPromServer(t, map[string]string{"up": "1"}), newPromServer(t, map[string]string{"up": "2"})
	c := withMetrics(v1beta1.CanaryMetric{Name: "x", Query: "up"})
	c.Spec.MetricsServer = own.URL
	got := store{}.evaluator(flag.URL).Read(t.Context(), c)
	if got[0].Value != 2 || flag.asked("up") != 0 {
		t.Errorf("got %+v; the server of the flag was asked %d times", got[0], flag.asked("up"))
	}
}

// Whatever goes wrong, the reading says which field to look at.
func TestErrorsNameFieldAndRemedy(t *testing.T) {
	down := newPromServer(t, nil)
	down.Close()
	secret := metricTemplate("test", "secret", "http://x", "up")
	secret.Spec.Provider.SecretRef = &corev1.LocalObjectReference{Name: "creds"}
	datadog := metricTemplate("test", "datadog", "", "up")
	datadog.Spec.Provider.Type = "datadog"
	s := store{templates: map[string]*v1beta1.MetricTemplate{
		"test/down":     metricTemplate("test", "down", down.URL, "up"),
		"test/render":   metricTemplate("test", "render", down.URL, "{{ variables.x }}"),
		"test/address":  metricTemplate("test", "address", "", "up"),
		"test/secret":   secret,
		"test/datadog":  datadog,
		"test/grafana":  metricTemplate("test", "grafana", down.URL, `sum(x{namespace="$namespace", pod=~"$workload-.*"})`),
		"other/crossed": metricTemplate("other", "crossed", down.URL, "up"),
	}}
	for name, tc := range map[string]struct {
		metric v1beta1.CanaryMetric
		change func(*v1beta1.Canary, *Evaluator)
		state  analysis.State
		says   []string
	}{
		"flag":            {v1beta1.CanaryMetric{Name: "request-success-rate"}, nil, analysis.Failed, []string{"connection refused", "-metrics-server", "spec.metricsServer"}},
		"spec":            {v1beta1.CanaryMetric{Name: "x", Query: "up"}, func(c *v1beta1.Canary, _ *Evaluator) { c.Spec.MetricsServer = down.URL }, analysis.Failed, []string{"unreachable", "address in spec.metricsServer"}},
		"template":        {v1beta1.CanaryMetric{Name: "x", TemplateRef: ref("", "down")}, nil, analysis.Failed, []string{"unreachable", "spec.provider.address of MetricTemplate test/down"}},
		"flag is no URL":  {v1beta1.CanaryMetric{Name: "request-duration"}, func(_ *v1beta1.Canary, e *Evaluator) { e.Server.Address = "prometheus:9090" }, analysis.Unusable, []string{"Error building Prometheus client for", "-metrics-server"}},
		"spec is no URL":  {v1beta1.CanaryMetric{Name: "x", Query: "up"}, func(c *v1beta1.Canary, _ *Evaluator) { c.Spec.MetricsServer = "http://u:pass@[" }, analysis.Unusable, []string{"Error building Prometheus client for", "spec.metricsServer"}},
		"inline render":   {v1beta1.CanaryMetric{Name: "x", Query: "{{ variables.x }}"}, nil, analysis.Unusable, []string{"Metric query failed for x", "spec.analysis.metrics[0].query", `no entry for key "x"`}},
		"template render": {v1beta1.CanaryMetric{Name: "x", TemplateRef: ref("", "render")}, nil, analysis.Unusable, []string{"Metric template render.test query render error", `no entry for key "x"`}},
		"inline of Grafana": {v1beta1.CanaryMetric{Name: "x", Query: "rate(x[${__rate_interval}])"}, nil, analysis.Unusable,
			[]string{"Metric query failed for x", "spec.analysis.metrics[0].query", "${__rate_interval}", "{{ interval }}"}},
		"template of Grafana": {v1beta1.CanaryMetric{Name: "x", TemplateRef: ref("", "grafana")}, nil, analysis.Unusable,
			[]string{"Metric template grafana.test query render error", "$namespace", "{{ namespace }}"}},
		"template address": {v1beta1.CanaryMetric{Name: "x", TemplateRef: ref("", "address")}, nil, analysis.Unusable, []string{"Metric template address.test provider prometheus error", "address is empty"}},
		"secret":           {v1beta1.CanaryMetric{Name: "x", TemplateRef: ref("", "secret")}, nil, analysis.Unusable, []string{`Metric template secret.test secret creds error: secret "creds" not found`}},
		"type":             {v1beta1.CanaryMetric{Name: "x", TemplateRef: ref("", "datadog")}, nil, analysis.Unusable, []string{"Metric template datadog.test provider datadog error", "secretRef", "datadog_api_key"}},
		"mesh provider":    {v1beta1.CanaryMetric{Name: "request-duration"}, func(_ *v1beta1.Canary, e *Evaluator) { e.FlagProvider = "crossover" }, analysis.Unusable, []string{"request-duration", "crossover", "-mesh-provider"}},
		"D-01 blocked":     {v1beta1.CanaryMetric{Name: "x", TemplateRef: ref("other", "crossed")}, func(_ *v1beta1.Canary, e *Evaluator) { e.NoCrossNamespaceRefs = true }, analysis.Unusable, []string{"can't access metric template crossed.other, cross-namespace references are blocked"}},
	} {
		t.Run(name, func(t *testing.T) {
			c, e := withMetrics(tc.metric), s.evaluator(down.URL)
			if tc.change != nil {
				tc.change(c, e)
			}
			r := e.Read(t.Context(), c)[0]
			if r.State != tc.state {
				t.Errorf("state %s, want %s", r.State, tc.state)
			}
			for _, part := range tc.says {
				if !strings.Contains(r.Cause, part) {
					t.Errorf("cause %q does not say %q", r.Cause, part)
				}
			}
			if strings.Contains(r.Cause, "pass@") {
				t.Errorf("cause %q shows a password", r.Cause)
			}
			if v := analysis.Evaluate(analysis.Check{ID: analysis.ID{}}, []analysis.Reading{r}); v.Outcome == analysis.Pass {
				t.Error("passes")
			}
		})
	}
}

func TestSecretIsReadInTheNamespaceOfTheTemplate(t *testing.T) {
	var auth string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth = r.Header.Get("Authorization")
		fmt.Fprint(w, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"1"]}]}}`)
	}))
	defer server.Close()
	tmpl := metricTemplate("monitoring", "up", server.URL, "up")
	tmpl.Spec.Provider.SecretRef = &corev1.LocalObjectReference{Name: "creds"}
	s := store{
		templates: map[string]*v1beta1.MetricTemplate{"monitoring/up": tmpl},
		secrets:   map[string]map[string][]byte{"monitoring/creds": {"token": []byte("abc")}},
	}
	got := s.evaluator("").Read(t.Context(), withMetrics(v1beta1.CanaryMetric{Name: "x", TemplateRef: ref("monitoring", "up")}))
	if got[0].State != analysis.Value || auth != "Bearer abc" {
		t.Errorf("got %+v, Authorization %q", got[0], auth)
	}
}

func TestKnative(t *testing.T) {
	server := newPromServer(t, map[string]string{`envoy_cluster_name=~"test/podinfo-00007"`: "100"})
	c := withMetrics(v1beta1.CanaryMetric{Name: "request-success-rate"})
	c.Spec.Provider = "knative"
	c.Spec.TargetRef = v1beta1.LocalObjectReference{APIVersion: "serving.knative.dev/v1", Kind: "Service", Name: "podinfo"}
	s := store{revisions: map[string]string{"test/podinfo": "podinfo-00007"}}
	if got := s.evaluator(server.URL).Read(t.Context(), c); got[0].Value != 100 || got[0].Provider != "knative" {
		t.Errorf("got %+v", got[0])
	}
	const want = "Error fetching Knative service test/podinfo not found"
	if got := (store{}).evaluator(server.URL).Read(t.Context(), c); got[0].State != analysis.Unusable || got[0].Cause != want {
		t.Errorf("got %+v, want %q", got[0], want)
	}
	e := s.evaluator(server.URL)
	e.Knative = nil
	if got := e.Read(t.Context(), c); got[0].State != analysis.Unusable {
		t.Errorf("got %+v", got[0])
	}
	// B-14: the flag alone does not make a Deployment a Knative Service.
	c.Spec.TargetRef.APIVersion, c.Spec.TargetRef.Kind = "apps/v1", "Deployment"
	if got := (store{}).evaluator(server.URL).Read(t.Context(), c); got[0].State != analysis.NoData {
		t.Errorf("got %+v", got[0])
	}
}

// All metrics are read at the same time: the server answers none before all have been asked.
func TestReadsInParallel(t *testing.T) {
	const n = 12
	var arrived sync.WaitGroup
	arrived.Add(n)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived.Done()
		arrived.Wait()
		fmt.Fprint(w, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"1"]}]}}`)
	}))
	defer server.Close()
	var metrics []v1beta1.CanaryMetric
	for i := range n {
		metrics = append(metrics, v1beta1.CanaryMetric{Name: fmt.Sprint(i), Query: fmt.Sprintf("up + %d", i)})
	}
	for _, r := range (store{}).evaluator(server.URL).Read(t.Context(), withMetrics(metrics...)) {
		if r.State != analysis.Value {
			t.Errorf("%s: %s", r.Metric.Name, r.Cause)
		}
	}
}

func TestDeadlineIsAFailedCheck(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	got := store{}.evaluator(server.URL).Read(ctx, withMetrics(v1beta1.CanaryMetric{Name: "x", Query: "up"}))
	if got[0].State != analysis.Failed || !strings.Contains(got[0].Cause, "no answer in time") {
		t.Errorf("got %+v", got[0])
	}
}

func TestReadChangesNothing(t *testing.T) {
	server := newPromServer(t, map[string]string{"up": "1"})
	tmpl := metricTemplate("test", "up", server.URL, "up")
	tmpl.Spec.Provider.Headers = map[string][]string{"X-A": {"1"}}
	s := store{templates: map[string]*v1beta1.MetricTemplate{"test/up": tmpl}}
	c := withMetrics(v1beta1.CanaryMetric{Name: "x", TemplateRef: ref("", "up")})
	beforeCanary, beforeTemplate := c.DeepCopy(), tmpl.DeepCopy()
	s.evaluator("").Read(t.Context(), c)
	if diff := cmp.Diff(beforeCanary, c) + cmp.Diff(beforeTemplate, tmpl); diff != "" {
		t.Error(diff)
	}
}

func TestCheck(t *testing.T) {
	up := newPromServer(t, map[string]string{"vector(1)": "1"})
	down := newPromServer(t, nil)
	down.Close()
	const downHint = "; check that the server is up and the address in "
	s := store{templates: map[string]*v1beta1.MetricTemplate{
		"test/up":   metricTemplate("test", "up", up.URL, "x"),
		"test/down": metricTemplate("test", "down", down.URL, "x"),
	}}
	for name, tc := range map[string]struct {
		address string
		metrics []v1beta1.CanaryMetric
		want    string
	}{
		"nothing to check": {down.URL, nil, ""},
		"no source":        {down.URL, []v1beta1.CanaryMetric{{Name: "x"}}, ""},
		"all up":           {up.URL, []v1beta1.CanaryMetric{{Name: "request-success-rate"}, {Name: "x", TemplateRef: ref("", "up")}, {Name: "y", Query: "x"}}, ""},
		"server not used":  {down.URL, []v1beta1.CanaryMetric{{Name: "x", TemplateRef: ref("", "up")}}, ""},
		"server down": {down.URL, []v1beta1.CanaryMetric{{Name: "x", TemplateRef: ref("", "gone")}, {Name: "request-duration"}},
			"prometheus not avaiable: prometheus at " + down.Listener.Addr().String() + " is unreachable: dial tcp "},
		"template down":    {up.URL, []v1beta1.CanaryMetric{{Name: "x", TemplateRef: ref("", "down")}}, "prometheus in metric template down.test not avaiable: prometheus at " + down.Listener.Addr().String() + " is unreachable"},
		"template missing": {up.URL, []v1beta1.CanaryMetric{{Name: "x", TemplateRef: ref("", "gone")}}, `Metric template gone.test error: metrictemplate "gone" not found`},
		"address":          {"", []v1beta1.CanaryMetric{{Name: "request-duration"}}, "Error building Prometheus client for  address is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			err := s.evaluator(tc.address).Check(t.Context(), withMetrics(tc.metrics...))
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				t.Fatalf("got %v, want %s…", err, tc.want)
			}
			if strings.Contains(tc.want, "unreachable") && !strings.Contains(err.Error(), downHint) {
				t.Errorf("%v does not say what to check", err)
			}
		})
	}
	if n := up.asked("vector(1)"); n != 3 {
		t.Errorf("asked %d times", n)
	}
}

// The operator knows each type that the CRD accepts, and the CRD accepts each type that the operator knows.
func TestRegistryKnowsTheTypesOfTheCRD(t *testing.T) {
	text, err := os.ReadFile("../../artifacts/flagger/crd.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var accepted []string
	for _, document := range strings.Split(string(text), "\n---\n") {
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.Unmarshal([]byte(document), &crd); err != nil {
			t.Fatal(err)
		}
		if crd.Spec.Names.Kind != "MetricTemplate" {
			continue
		}
		for _, value := range crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].Properties["provider"].Properties["type"].Enum {
			accepted = append(accepted, strings.Trim(string(value.Raw), `"`))
		}
	}
	known := slices.Sorted(maps.Keys(NewRegistry(clock.RealClock{}, Cluster{})))
	if diff := cmp.Diff(accepted, known, cmpopts.SortSlices(strings.Compare)); diff != "" {
		t.Errorf("accepted by the CRD (-), known to the operator (+):\n%s", diff)
	}
}

// patient answers when its own limit ends.
type patient struct{ limit time.Duration }

func (p patient) Timeout() time.Duration { return p.limit }
func (p patient) Query(ctx context.Context, _ string) (float64, error) {
	deadline, _ := ctx.Deadline()
	return time.Until(deadline).Round(time.Hour).Hours(), nil
}
func (patient) Online(context.Context) error { return nil }

func TestBackEndsMayHaveALimitOfTheirOwn(t *testing.T) {
	e := store{}.evaluator("http://x")
	e.Registry = Registry{"prometheus": func(provider.Config) (Provider, error) { return patient{7 * time.Hour}, nil }}
	got := e.Read(t.Context(), withMetrics(v1beta1.CanaryMetric{Name: "x", Query: "up"}))
	if got[0].Value != 7 {
		t.Errorf("a query may take %v hours instead of 7", got[0].Value)
	}
	// Whoever gives all back-ends more time gives it to these, too.
	e.Limit = 9 * time.Hour
	if got := e.Read(t.Context(), withMetrics(v1beta1.CanaryMetric{Name: "x", Query: "up == 1"})); got[0].Value != 9 {
		t.Errorf("a query may take %v hours instead of 9", got[0].Value)
	}
}

type panicking struct{}

func (panicking) Query(context.Context, string) (float64, error) { panic("bug in a back-end") }
func (panicking) Online(context.Context) error                   { panic("bug in a back-end") }

// C-08: a panic has to reach the goroutine of the Canary, where it is confined.
func TestC08PanicReachesTheCaller(t *testing.T) {
	e := store{}.evaluator("")
	e.Registry = Registry{"prometheus": func(provider.Config) (Provider, error) { return panicking{}, nil }}
	c := withMetrics(v1beta1.CanaryMetric{Name: "x", Query: "up"})
	for name, call := range map[string]func(){
		"Read":  func() { e.Read(t.Context(), c) },
		"Check": func() { _ = e.Check(t.Context(), c) },
	} {
		func() {
			defer func() {
				if value := recover(); value == nil || !strings.Contains(fmt.Sprint(value), "bug in a back-end") {
					t.Errorf("%s: recovered %v", name, value)
				}
			}()
			call()
		}()
	}
}
