package v1beta1_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	flaggerv1 "flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

func newCanary(change func(*flaggerv1.Canary)) *flaggerv1.Canary {
	c := &flaggerv1.Canary{
		ObjectMeta: metav1.ObjectMeta{Name: "podinfo", Namespace: "test"},
		Spec: flaggerv1.CanarySpec{
			TargetRef: flaggerv1.LocalObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "podinfo"},
			Service:   flaggerv1.CanaryService{Port: 9898},
			Analysis:  &flaggerv1.CanaryAnalysis{Interval: "1m", Threshold: 5, StepWeight: 10},
		},
	}
	change(c)
	return c
}

func knativeTarget(c *flaggerv1.Canary) {
	c.Spec.TargetRef = flaggerv1.LocalObjectReference{APIVersion: "serving.knative.dev/v1", Kind: "Service", Name: "podinfo"}
	c.Spec.Service = flaggerv1.CanaryService{}
}

type validateTest struct {
	change func(*flaggerv1.Canary)
	opts   flaggerv1.ValidationOptions
	want   string // part of the errors; empty means valid
}

func runValidate(t *testing.T, tests map[string]validateTest) {
	t.Helper()
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.opts.Provider == "" {
				test.opts.Provider = "istio"
			}
			checkErrors(t, flaggerv1.Validate(newCanary(test.change), test.opts), test.want)
		})
	}
}

func TestValidateTarget(t *testing.T) {
	flagKnative := flaggerv1.ValidationOptions{Provider: "knative"}
	runValidate(t, map[string]validateTest{
		"minimal": {func(*flaggerv1.Canary) {}, flaggerv1.ValidationOptions{}, ""},
		"kind": {func(c *flaggerv1.Canary) { c.Spec.TargetRef.Kind = "StatefulSet" }, flaggerv1.ValidationOptions{},
			`spec.targetRef.kind: Unsupported value: "StatefulSet": supported values: "DaemonSet", "Deployment", "Service"`},
		"name": {func(c *flaggerv1.Canary) { c.Spec.TargetRef.Name = "" }, flaggerv1.ValidationOptions{},
			"spec.targetRef.name: Required value"},
		"provider": {func(c *flaggerv1.Canary) { c.Spec.Provider = "consul" }, flaggerv1.ValidationOptions{},
			`spec.provider: Unsupported value: "consul"`},
		"knative target, provider by flag": {knativeTarget, flagKnative, ""},
		"knative target elsewhere": {knativeTarget, flaggerv1.ValidationOptions{},
			"can't use istio provider with Knative Service as target"},
		"B-14 other target, knative by flag": {func(*flaggerv1.Canary) {}, flagKnative,
			"can't use apps/v1/Deployment as target if provider is set to knative"},
		"B-14 other target, own provider": {func(c *flaggerv1.Canary) { c.Spec.Provider = "istio" }, flagKnative, ""},
		"knative of another version": {func(c *flaggerv1.Canary) {
			knativeTarget(c)
			c.Spec.TargetRef.APIVersion = "serving.knative.dev/v1beta1"
		}, flagKnative, `spec.targetRef.apiVersion: Invalid value: "serving.knative.dev/v1beta1": ` +
			"Knative Services are served as serving.knative.dev/v1: set that"},
		"core Service": {func(c *flaggerv1.Canary) { c.Spec.TargetRef.APIVersion, c.Spec.TargetRef.Kind = "core/v1", "Service" },
			flaggerv1.ValidationOptions{}, ""},
		"knative with autoscaler": {func(c *flaggerv1.Canary) {
			knativeTarget(c)
			c.Spec.AutoscalerRef = &flaggerv1.AutoscalerReference{Kind: "HorizontalPodAutoscaler", Name: "podinfo"}
		}, flagKnative, "spec.autoscalerRef: Forbidden: can't use autoscaler with Knative Service"},
		"metrics server": {func(c *flaggerv1.Canary) { c.Spec.MetricsServer = "prometheus:9090" }, flaggerv1.ValidationOptions{},
			"spec.metricsServer: Invalid value: must begin with http:// or https://"},
	})
}

func TestValidateService(t *testing.T) {
	long := strings.Repeat("a", 56)
	runValidate(t, map[string]validateTest{
		"port missing": {func(c *flaggerv1.Canary) { c.Spec.Service.Port = 0 }, flaggerv1.ValidationOptions{},
			"spec.service.port: Invalid value: 0: set the port the target is reached at"},
		"port missing for a Service": {func(c *flaggerv1.Canary) {
			c.Spec.TargetRef.APIVersion, c.Spec.TargetRef.Kind, c.Spec.Service.Port = "v1", "Service", 0
		}, flaggerv1.ValidationOptions{}, ""},
		"B-27 long target": {func(c *flaggerv1.Canary) { c.Spec.TargetRef.Name = long }, flaggerv1.ValidationOptions{},
			"must be at most 55 characters long, because the Services <name>-primary and <name>-canary are named after it"},
		"B-27 long target, short service": {func(c *flaggerv1.Canary) {
			c.Spec.TargetRef.Name, c.Spec.Service.Name = long, "podinfo"
		}, flaggerv1.ValidationOptions{}, ""},
		"B-27 copies of a Service": {func(c *flaggerv1.Canary) {
			c.Spec.TargetRef.Kind, c.Spec.TargetRef.Name, c.Spec.Service.Name = "Service", long, "podinfo"
		}, flaggerv1.ValidationOptions{}, "spec.targetRef.name: Invalid value"},
		"B-27 no label": {func(c *flaggerv1.Canary) { c.Spec.Service.Name = "podinfo.v2" }, flaggerv1.ValidationOptions{},
			"spec.service.name: Invalid value: \"podinfo.v2\": must be a DNS label"},
		"nginx by flag": {func(*flaggerv1.Canary) {}, flaggerv1.ValidationOptions{Provider: "nginx"},
			"spec.ingressRef: Required value: provider nginx needs it"},
		"apisix": {func(c *flaggerv1.Canary) { c.Spec.Provider = "apisix" }, flaggerv1.ValidationOptions{},
			"spec.routeRef: Required value: provider apisix needs it"},
		"A/B on traefik": {func(c *flaggerv1.Canary) {
			c.Spec.Provider, c.Spec.Analysis.Match = "traefik", []flaggerv1.AnalysisMatch{{}}
		}, flaggerv1.ValidationOptions{}, "spec.ingressRef: Required value: an A/B test with provider traefik needs it"},
		"appmesh": {func(c *flaggerv1.Canary) { c.Spec.Provider = "appmesh" }, flaggerv1.ValidationOptions{},
			"spec.service.meshName: Required value"},
		"appmesh:v1beta2": {func(c *flaggerv1.Canary) { c.Spec.Provider = "appmesh:v1beta2" }, flaggerv1.ValidationOptions{}, ""},
		"gateway api": {func(c *flaggerv1.Canary) { c.Spec.Provider = "gatewayapi:v1" }, flaggerv1.ValidationOptions{},
			"spec.service.gatewayRefs: Required value"},
		"delegation": {func(c *flaggerv1.Canary) {
			c.Spec.Service.Delegation, c.Spec.Service.Gateways = true, []string{"mesh"}
		}, flaggerv1.ValidationOptions{}, "spec.service.delegation: Forbidden"},
		"delegation elsewhere": {func(c *flaggerv1.Canary) {
			c.Spec.Service.Delegation, c.Spec.Service.Hosts = true, []string{"a"}
		}, flaggerv1.ValidationOptions{Provider: "contour"}, ""},
	})
}

func TestValidateCrossNamespaceRefs(t *testing.T) {
	blocked := flaggerv1.ValidationOptions{NoCrossNamespaceRefs: true}
	upstream := func(c *flaggerv1.Canary) {
		c.Spec.UpstreamRef = &flaggerv1.CrossNamespaceObjectReference{Name: "up", Namespace: "gloo"}
	}
	template := func(c *flaggerv1.Canary) {
		c.Spec.Analysis.Metrics = []flaggerv1.CanaryMetric{{
			Name: "m", TemplateRef: &flaggerv1.CrossNamespaceObjectReference{Name: "latency", Namespace: "istio"},
		}}
	}
	alert := func(c *flaggerv1.Canary) {
		c.Spec.Analysis.Alerts = []flaggerv1.CanaryAlert{{
			Name: "a", ProviderRef: flaggerv1.CrossNamespaceObjectReference{Name: "slack", Namespace: "ops"},
		}}
	}
	own := func(c *flaggerv1.Canary) {
		upstream(c)
		template(c)
		alert(c)
		c.Spec.UpstreamRef.Namespace = "test"
		c.Spec.Analysis.Metrics[0].TemplateRef.Namespace = ""
		c.Spec.Analysis.Alerts[0].ProviderRef.Namespace = ""
	}
	runValidate(t, map[string]validateTest{
		"upstream": {upstream, blocked, "spec.upstreamRef.namespace: Forbidden: can't access gloo upstream up.gloo, cross-namespace references are blocked"},
		"template": {template, blocked, "spec.analysis.metrics[0].templateRef.namespace: Forbidden: can't access metric template latency.istio, cross-namespace references are blocked"},
		"alert":    {alert, blocked, "spec.analysis.alerts[0].providerRef.namespace: Forbidden: can't access alert provider slack.ops, cross-namespace references are blocked"},
		"skipped analysis still alerts": {func(c *flaggerv1.Canary) { alert(c); c.Spec.SkipAnalysis = true }, blocked,
			"can't access alert provider slack.ops"},
		"old name of analysis": {func(c *flaggerv1.Canary) {
			alert(c)
			c.Spec.CanaryAnalysis, c.Spec.Analysis = c.Spec.Analysis, nil
		}, blocked, "spec.canaryAnalysis.alerts[0].providerRef.namespace"},
		"own namespace": {own, blocked, ""},
		"allowed":       {func(c *flaggerv1.Canary) { upstream(c); template(c); alert(c) }, flaggerv1.ValidationOptions{}, ""},
	})
}

func TestValidateAnalysis(t *testing.T) {
	analysis := func(change func(*flaggerv1.CanaryAnalysis)) func(*flaggerv1.Canary) {
		return func(c *flaggerv1.Canary) { change(c.Spec.Analysis) }
	}
	weights := func(weights ...int32) func(*flaggerv1.Canary) {
		return analysis(func(a *flaggerv1.CanaryAnalysis) { a.StepWeight, a.StepWeights = 0, weights })
	}
	hook := func(w flaggerv1.CanaryWebhook) func(*flaggerv1.Canary) {
		return analysis(func(a *flaggerv1.CanaryAnalysis) { a.Webhooks = []flaggerv1.CanaryWebhook{w} })
	}
	metric := func(m flaggerv1.CanaryMetric) func(*flaggerv1.Canary) {
		return analysis(func(a *flaggerv1.CanaryAnalysis) { a.Metrics = []flaggerv1.CanaryMetric{m} })
	}
	affinity := func(cookie, primary string) func(*flaggerv1.Canary) {
		return analysis(func(a *flaggerv1.CanaryAnalysis) {
			a.SessionAffinity = &flaggerv1.SessionAffinity{CookieName: cookie, PrimaryCookieName: primary}
		})
	}
	none := flaggerv1.ValidationOptions{}
	runValidate(t, map[string]validateTest{
		"interval":                      {analysis(func(a *flaggerv1.CanaryAnalysis) { a.Interval = "1min" }), none, `spec.analysis.interval: Invalid value: "1min": is no duration: write it like 30s, 1m30s or 1h`},
		"interval too long":             {analysis(func(a *flaggerv1.CanaryAnalysis) { a.Interval = "9999999999h" }), none, "spec.analysis.interval: Invalid value"},
		"interval below 0":              {analysis(func(a *flaggerv1.CanaryAnalysis) { a.Interval = "-1m" }), none, "spec.analysis.interval: Invalid value"},
		"interval in hours":             {analysis(func(a *flaggerv1.CanaryAnalysis) { a.Interval = "1h" }), none, ""},
		"two strategies":                {analysis(func(a *flaggerv1.CanaryAnalysis) { a.Iterations = 3 }), none, "spec.analysis: Forbidden: iterations and stepWeight exclude each other"},
		"weight":                        {analysis(func(a *flaggerv1.CanaryAnalysis) { a.MaxWeight = 101 }), none, "spec.analysis.maxWeight: Invalid value: 101"},
		"ready threshold":               {analysis(func(a *flaggerv1.CanaryAnalysis) { a.CanaryReadyThreshold = ptr.To[int32](101) }), none, "spec.analysis.canaryReadyThreshold: Invalid value: 101"},
		"A-22 ascending":                {weights(1, 2, 10, 80), none, ""},
		"A-22 end twice":                {weights(10, 50, 50), none, ""},
		"A-22 stalls":                   {weights(10, 10, 50), none, "spec.analysis.stepWeights[1]: Invalid value: 10: must be more than the weight before it, 10"},
		"A-22 descending":               {weights(50, 10), none, "spec.analysis.stepWeights[1]: Invalid value"},
		"weights over 100":              {weights(50, 110), none, "spec.analysis.stepWeights[1]: Invalid value: 110"},
		"hook":                          {hook(flaggerv1.CanaryWebhook{Name: "a", URL: "http://a.test/x", Timeout: "1h"}), none, ""},
		"hook url":                      {hook(flaggerv1.CanaryWebhook{Name: "a", URL: "loadtester.test/x"}), none, "spec.analysis.webhooks[0].url: Invalid value: must begin with http:// or https://"},
		"hook without host":             {hook(flaggerv1.CanaryWebhook{Name: "a", URL: "http:///x"}), none, "must name a host"},
		"hook with bad url":             {hook(flaggerv1.CanaryWebhook{Name: "a", URL: "http://a b"}), none, "spec.analysis.webhooks[0].url: Invalid value: is no URL"},
		"hook type":                     {hook(flaggerv1.CanaryWebhook{Name: "a", URL: "http://a", Type: "skip"}), none, "spec.analysis.webhooks[0].type: Unsupported value"},
		"hook timeout":                  {hook(flaggerv1.CanaryWebhook{Name: "a", URL: "http://a", Timeout: "5"}), none, "spec.analysis.webhooks[0].timeout: Invalid value"},
		"hook retries":                  {hook(flaggerv1.CanaryWebhook{Name: "a", URL: "http://a", Retries: -1}), none, "spec.analysis.webhooks[0].retries: Invalid value"},
		"metric":                        {metric(flaggerv1.CanaryMetric{Name: "request-success-rate"}), none, ""},
		"metric of 2019":                {metric(flaggerv1.CanaryMetric{Name: "istio_requests_total"}), none, ""},
		"metric, no source":             {metric(flaggerv1.CanaryMetric{Name: "errors"}), none, "no usable metrics template and query were configured"},
		"metric interval":               {metric(flaggerv1.CanaryMetric{Name: "errors", Query: "q", Interval: "1d"}), none, "spec.analysis.metrics[0].interval: Invalid value"},
		"samples, built in":             {policy("request-success-rate", flaggerv1.MetricPolicy{MinSamples: 100, NoData: "hold", NoDataLimit: "10m", Warmup: "2m", Critical: true}), none, ""},
		"samples, own":                  {policy("errors", flaggerv1.MetricPolicy{MinSamples: 100, SamplesQuery: "q", Mode: "observe"}), none, ""},
		"samples below 0":               {policy("errors", flaggerv1.MetricPolicy{MinSamples: -1}), none, "spec.analysis.metrics[0].minSamples: Invalid value: -1: set a number of requests, 0 or more"},
		"samples, no query":             {policy("errors", flaggerv1.MetricPolicy{MinSamples: 100}), none, "spec.analysis.metrics[0].samplesQuery: Required value: write a query that counts the requests"},
		"needless query":                {policy("request-duration", flaggerv1.MetricPolicy{SamplesQuery: "q"}), none, "spec.analysis.metrics[0].samplesQuery: Forbidden: the requests of request-duration are counted by a query that is built in"},
		"no-data policy":                {policy("errors", flaggerv1.MetricPolicy{NoData: "wait"}), none, `spec.analysis.metrics[0].noData: Unsupported value: "wait"`},
		"no-data limit":                 {policy("errors", flaggerv1.MetricPolicy{NoData: "hold", NoDataLimit: "10"}), none, "spec.analysis.metrics[0].noDataLimit: Invalid value"},
		"limit for nothing":             {policy("errors", flaggerv1.MetricPolicy{NoDataLimit: "10m"}), none, "spec.analysis.metrics[0].noDataLimit: Forbidden: no data is a failed check at once"},
		"mode":                          {policy("errors", flaggerv1.MetricPolicy{Mode: "dry-run"}), none, `spec.analysis.metrics[0].mode: Unsupported value: "dry-run"`},
		"critical observer":             {policy("errors", flaggerv1.MetricPolicy{Mode: "observe", Critical: true}), none, "spec.analysis.metrics[0].critical: Forbidden: a metric that is only observed"},
		"warm-up":                       {policy("errors", flaggerv1.MetricPolicy{Warmup: "soon"}), none, "spec.analysis.metrics[0].warmup: Invalid value"},
		"comparison":                    {compared("request-success-rate", flaggerv1.MetricComparison{Difference: atLeast(-1), FalseAlarmRate: 0.01}), none, ""},
		"comparison of slow requests":   {compared("request-duration", flaggerv1.MetricComparison{Ratio: atMost(1.5), SlowerThan: "500ms"}), none, ""},
		"comparison of values":          {compared("errors", flaggerv1.MetricComparison{Ratio: &flaggerv1.CanaryThresholdRange{Min: new(0.5), Max: new(2.0)}}), none, ""},
		"comparison with neither":       {compared("errors", flaggerv1.MetricComparison{}), none, "spec.analysis.metrics[0].comparison: Forbidden: set exactly one of difference and ratio"},
		"comparison with both":          {compared("errors", flaggerv1.MetricComparison{Ratio: atMost(1), Difference: atMost(1)}), none, "set exactly one of difference and ratio"},
		"comparison without bound":      {compared("errors", flaggerv1.MetricComparison{Ratio: &flaggerv1.CanaryThresholdRange{}}), none, "spec.analysis.metrics[0].comparison.ratio: Required value: set min, max or both"},
		"comparison, bounds exchanged":  {compared("errors", flaggerv1.MetricComparison{Ratio: &flaggerv1.CanaryThresholdRange{Min: new(2.0), Max: new(1.0)}}), none, "min is greater than max"},
		"comparison, rate above":        {compared("request-success-rate", flaggerv1.MetricComparison{Difference: atLeast(1)}), none, "spec.analysis.metrics[0].comparison.difference: Invalid value: a lower rate is worse: set min alone, to 0 or less"},
		"comparison, rate by max":       {compared("request-success-rate", flaggerv1.MetricComparison{Ratio: atMost(1)}), none, "spec.analysis.metrics[0].comparison.ratio: Invalid value: a lower rate is worse: set min alone, to 1 or less"},
		"comparison, share by min":      {compared("request-duration", flaggerv1.MetricComparison{Difference: atLeast(1), SlowerThan: "1s"}), none, "a greater share of bad requests is worse: set max alone, to 0 or more"},
		"comparison, slow rate":         {compared("request-success-rate", flaggerv1.MetricComparison{Difference: atLeast(0), SlowerThan: "1s"}), none, "spec.analysis.metrics[0].comparison.slowerThan: Forbidden: only the histogram of request-duration is known"},
		"comparison, tested percentile": {compared("request-duration", flaggerv1.MetricComparison{Difference: atMost(0), FalseAlarmRate: 0.01}), none, "spec.analysis.metrics[0].comparison.slowerThan: Required value: a percentile can't be tested"},
		"comparison, uncounted":         {compared("errors", flaggerv1.MetricComparison{Difference: atMost(0), FalseAlarmRate: 0.01}), none, "spec.analysis.metrics[0].samplesQuery: Required value"},
		"comparison, false alarms":      {compared("request-success-rate", flaggerv1.MetricComparison{Difference: atLeast(0), FalseAlarmRate: 5}), none, "spec.analysis.metrics[0].comparison.falseAlarmRate: Invalid value: 5: set a probability"},
		"comparison and a constant": {metric(flaggerv1.CanaryMetric{Name: "request-success-rate", ThresholdRange: atLeast(99), MetricPolicy: flaggerv1.MetricPolicy{
			Comparison: &flaggerv1.MetricComparison{Difference: atLeast(-1)}}}), none, "spec.analysis.metrics[0].comparison: Forbidden: the primary takes the place of a constant"},
		"split":               {splitBy(flaggerv1.SplitPolicy{Mode: "enforce", Tolerance: 5, FalseAlarmRate: 0.001, Limit: "5m"}), none, ""},
		"split, mode":         {splitBy(flaggerv1.SplitPolicy{Mode: "hold"}), none, `spec.analysis.split.mode: Unsupported value: "hold"`},
		"split, tolerance":    {splitBy(flaggerv1.SplitPolicy{Tolerance: 101}), none, "spec.analysis.split.tolerance: Invalid value: 101: set percentage points from 1 to 100"},
		"split, false alarms": {splitBy(flaggerv1.SplitPolicy{FalseAlarmRate: 5}), none, "spec.analysis.split.falseAlarmRate: Invalid value: 5: set a probability"},
		"split, limit":        {splitBy(flaggerv1.SplitPolicy{Limit: "5"}), none, "spec.analysis.split.limit: Invalid value"},
		"split of sessions": {func(c *flaggerv1.Canary) {
			splitBy(flaggerv1.SplitPolicy{Mode: "enforce"})(c)
			c.Spec.Analysis.SessionAffinity = &flaggerv1.SessionAffinity{CookieName: "c"}
		}, none, "spec.analysis.split.mode: Forbidden: with sessionAffinity no share of all requests is asked for"},
		"split, sides mixed": {splitBy(flaggerv1.SplitPolicy{}), flaggerv1.ValidationOptions{Provider: "apisix"},
			"spec.analysis.split: Forbidden: the built-in metrics of provider apisix do not tell the primary from the canary"},
		"split, ignored": {splitBy(flaggerv1.SplitPolicy{Mode: "ignore"}), flaggerv1.ValidationOptions{Provider: "kubernetes"}, ""},
		"split, no weights": {splitBy(flaggerv1.SplitPolicy{}), flaggerv1.ValidationOptions{Provider: "kubernetes"},
			"spec.analysis.split: Forbidden: provider kubernetes shifts no weights"},
		"comparison, sides mixed": {compared("request-success-rate", flaggerv1.MetricComparison{Difference: atLeast(-1)}), flaggerv1.ValidationOptions{Provider: "apisix"},
			"spec.analysis.metrics[0].comparison: Forbidden: the built-in metrics of provider apisix do not tell the primary from the canary"},
		"alert severity": {analysis(func(a *flaggerv1.CanaryAnalysis) {
			a.Alerts = []flaggerv1.CanaryAlert{{Severity: "fatal", ProviderRef: flaggerv1.CrossNamespaceObjectReference{Name: "a"}}}
		}), none, "spec.analysis.alerts[0].severity: Unsupported value"},
		"alert provider":      {analysis(func(a *flaggerv1.CanaryAnalysis) { a.Alerts = []flaggerv1.CanaryAlert{{Name: "a"}} }), none, "spec.analysis.alerts[0].providerRef.name: Required value"},
		"cookies":             {affinity("a", "b"), none, ""},
		"one cookie":          {affinity("a", ""), none, ""},
		"same cookie":         {affinity("a", "a"), none, "can't use the same cookie name for both primary and cookie name; please update them to be different"},
		"no cookie":           {affinity("", ""), none, "can't use the same cookie name for both"},
		"B-20 no token":       {affinity("a=b", ""), none, "spec.analysis.sessionAffinity.cookieName: Invalid value"},
		"errors, but skipped": {func(c *flaggerv1.Canary) { c.Spec.Analysis.Interval, c.Spec.SkipAnalysis = "1min", true }, none, ""},
	})
}

// A password in a URL must not get into events.
func TestValidateDoesNotShowURLs(t *testing.T) {
	c := newCanary(func(c *flaggerv1.Canary) {
		c.Spec.MetricsServer = "ftp://user:secret@prometheus"
		c.Spec.Analysis.Webhooks = []flaggerv1.CanaryWebhook{{Name: "a", URL: "http://user:secret@a b"}}
	})
	errs := flaggerv1.Validate(c, flaggerv1.ValidationOptions{Provider: "istio"})
	if len(errs) != 2 {
		t.Fatalf("%d errors, want 2: %v", len(errs), errs)
	}
	if text := errs.ToAggregate().Error(); strings.Contains(text, "secret") {
		t.Errorf("password in %q", text)
	}
}

// What the API server accepts the operator accepts too, or an object would be stored and then rejected.
func TestValidateAgreesWithAdmission(t *testing.T) {
	files, err := filepath.Glob("testdata/accept/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range strings.Split(string(data), "\n---\n") {
			if kind, _ := decode(t, doc)["kind"].(string); kind != flaggerv1.CanaryKind {
				continue
			}
			c := &flaggerv1.Canary{}
			if err := yaml.Unmarshal([]byte(doc), c); err != nil {
				t.Fatal(err)
			}
			t.Run(filepath.Base(file)+"/"+c.Name, func(t *testing.T) {
				checkErrors(t, flaggerv1.Validate(c, flaggerv1.ValidationOptions{Provider: "istio"}), "")
			})
		}
	}
}

func ownWorkload(name string) *flaggerv1.LocalObjectReference {
	return &flaggerv1.LocalObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: name}
}

func TestValidateOwn(t *testing.T) {
	own := func(change func(*flaggerv1.CanarySpec)) func(*flaggerv1.Canary) {
		return func(c *flaggerv1.Canary) {
			c.Spec.RouteRef = &flaggerv1.LocalObjectReference{Kind: "VirtualService", Name: "edge"}
			c.Spec.PrimaryRef = ownWorkload("stable")
			change(&c.Spec)
		}
	}
	gateway := flaggerv1.ValidationOptions{Provider: "gatewayapi"}
	runValidate(t, map[string]validateTest{
		"both":                        {own(func(*flaggerv1.CanarySpec) {}), flaggerv1.ValidationOptions{}, ""},
		"names":                       {own(func(s *flaggerv1.CanarySpec) { s.Service.PrimaryName, s.Service.CanaryName = "a", "b" }), flaggerv1.ValidationOptions{}, ""},
		"a route without gatewayRefs": {own(func(s *flaggerv1.CanarySpec) { s.PrimaryRef, s.RouteRef.Kind = nil, "HTTPRoute" }), gateway, ""},
		"the route of another provider": {own(func(*flaggerv1.CanarySpec) {}), gateway,
			"spec.routeRef.kind: Invalid value: \"VirtualService\": provider gatewayapi does not change routes of this kind"},
		"the route of apisix": {own(func(s *flaggerv1.CanarySpec) { s.PrimaryRef, s.RouteRef.Kind = nil, "ApisixRoute" }), flaggerv1.ValidationOptions{}, ""},
		"a match": {own(func(s *flaggerv1.CanarySpec) {
			s.Analysis.Match = []flaggerv1.AnalysisMatch{{Headers: map[string]flaggerv1.StringMatch{"a": {Exact: "b"}}}}
			s.Analysis.Iterations, s.Analysis.StepWeight = 1, 0
		}), flaggerv1.ValidationOptions{}, "spec.analysis.match: Forbidden: of the VirtualService that routeRef names only weights are changed"},
		"no route": {own(func(s *flaggerv1.CanarySpec) { s.RouteRef = nil }), flaggerv1.ValidationOptions{},
			"spec.routeRef: Required value: a primary of your own needs a route of your own"},
		"no name":      {own(func(s *flaggerv1.CanarySpec) { s.PrimaryRef.Name = "" }), flaggerv1.ValidationOptions{}, "spec.primaryRef.name: Required value"},
		"the target":   {own(func(s *flaggerv1.CanarySpec) { s.PrimaryRef.Name = "podinfo" }), flaggerv1.ValidationOptions{}, "spec.primaryRef.name: Invalid value: \"podinfo\": this is the target"},
		"another kind": {own(func(s *flaggerv1.CanarySpec) { s.TargetRef.Kind = "DaemonSet" }), flaggerv1.ValidationOptions{}, "spec.primaryRef.kind: Invalid value: \"Deployment\": the pod template is copied from the target, which is a DaemonSet"},
		"a Service":    {own(func(s *flaggerv1.CanarySpec) { s.PrimaryRef.Kind, s.TargetRef.Kind = "Service", "Service" }), flaggerv1.ValidationOptions{}, "spec.primaryRef.kind: Unsupported value"},
		"bounds of its autoscaler": {own(func(s *flaggerv1.CanarySpec) {
			s.AutoscalerRef = &flaggerv1.AutoscalerReference{Kind: "HorizontalPodAutoscaler", Name: "a", PrimaryScalerReplicas: &flaggerv1.ScalerReplicas{}}
		}), flaggerv1.ValidationOptions{}, "spec.autoscalerRef: Forbidden: the autoscaler of a primary of your own is yours as well"},
		"names without a primary": {own(func(s *flaggerv1.CanarySpec) { s.PrimaryRef, s.Service.CanaryName = nil, "a" }), flaggerv1.ValidationOptions{},
			"spec.service.canaryName: Forbidden: names a Service beside a primary of your own: set spec.primaryRef"},
		"one Service":    {own(func(s *flaggerv1.CanarySpec) { s.Service.PrimaryName, s.Service.CanaryName = "a", "a" }), flaggerv1.ValidationOptions{}, "spec.service.canaryName: Invalid value: \"a\": is the Service of the primary as well"},
		"no valid names": {own(func(s *flaggerv1.CanarySpec) { s.Service.PrimaryName = "a.b" }), flaggerv1.ValidationOptions{}, "spec.service.primaryName: Invalid value: \"a.b\": is not the name of a Service"},
	})
}

func atLeast(v float64) *flaggerv1.CanaryThresholdRange {
	return &flaggerv1.CanaryThresholdRange{Min: &v}
}

func atMost(v float64) *flaggerv1.CanaryThresholdRange {
	return &flaggerv1.CanaryThresholdRange{Max: &v}
}

// policy gives a Canary one metric: a built-in one, or one with a query of that name.
func policy(name string, p flaggerv1.MetricPolicy) func(*flaggerv1.Canary) {
	return func(c *flaggerv1.Canary) {
		m := flaggerv1.CanaryMetric{Name: name, MetricPolicy: p}
		if name == "errors" {
			m.Query = "q"
		}
		c.Spec.Analysis.Metrics = []flaggerv1.CanaryMetric{m}
	}
}

func splitBy(p flaggerv1.SplitPolicy) func(*flaggerv1.Canary) {
	return func(c *flaggerv1.Canary) { c.Spec.Analysis.Split = &p }
}

func compared(name string, comparison flaggerv1.MetricComparison) func(*flaggerv1.Canary) {
	return policy(name, flaggerv1.MetricPolicy{Comparison: &comparison})
}

func TestValidateDependsOn(t *testing.T) {
	with := func(d flaggerv1.DependsOn) func(*flaggerv1.Canary) {
		return func(c *flaggerv1.Canary) { c.Spec.DependsOn = &d }
	}
	one := []flaggerv1.CanaryReference{{Name: "api"}}
	other := with(flaggerv1.DependsOn{Canaries: []flaggerv1.CanaryReference{{Name: "api"}, {Name: "accounts", Namespace: "login"}}})
	blocked := flaggerv1.ValidationOptions{NoCrossNamespaceRefs: true}
	runValidate(t, map[string]validateTest{
		"one":     {with(flaggerv1.DependsOn{Canaries: one, Delay: "0s", Deadline: "90m", AtDeadline: flaggerv1.AtDeadlineBegin}), blocked, ""},
		"none":    {with(flaggerv1.DependsOn{}), blocked, "spec.dependsOn.canaries: Required value: name the Canaries"},
		"nobody":  {with(flaggerv1.DependsOn{Canaries: []flaggerv1.CanaryReference{{}}}), blocked, "spec.dependsOn.canaries[0].name: Required value"},
		"allowed": {other, flaggerv1.ValidationOptions{}, ""},
		"blocked": {other, blocked, "spec.dependsOn.canaries[1].namespace: Forbidden: can't access canary accounts.login, cross-namespace references are blocked"},
		"deadline": {with(flaggerv1.DependsOn{Canaries: one, Deadline: "soon"}), blocked,
			"spec.dependsOn.deadline: Invalid value: \"soon\": is no duration: set one like 30s, 5m or 1h"},
		"delay":   {with(flaggerv1.DependsOn{Canaries: one, Delay: "10"}), blocked, "spec.dependsOn.delay: Invalid value"},
		"outcome": {with(flaggerv1.DependsOn{Canaries: one, AtDeadline: "Wait"}), blocked, "spec.dependsOn.atDeadline: Unsupported value"},
	})
}

func TestValidateSchedule(t *testing.T) {
	with := func(s flaggerv1.RolloutSchedule) func(*flaggerv1.Canary) {
		return func(c *flaggerv1.Canary) { c.Spec.Analysis.Schedule = &s }
	}
	runValidate(t, map[string]validateTest{
		"all": {with(flaggerv1.RolloutSchedule{Windows: []string{"Mon-Thu 09:00-16:00", "Sat,Sun", "22:00-04:00"}, TimeZone: "Europe/Berlin",
			Freezes: []string{"2026-12-24", "2026-12-19T18:00/2027-01-04T08:00"}, UnderWay: flaggerv1.UnderWayHold}), flaggerv1.ValidationOptions{}, ""},
		"window": {with(flaggerv1.RolloutSchedule{Windows: []string{"Mon", "Mon 9-17"}}), flaggerv1.ValidationOptions{},
			"spec.analysis.schedule.windows[1]: Invalid value: \"Mon 9-17\": has no times that can be read"},
		"freeze": {with(flaggerv1.RolloutSchedule{Freezes: []string{"2026-02-30"}}), flaggerv1.ValidationOptions{},
			"spec.analysis.schedule.freezes[0]: Invalid value: \"2026-02-30\": is no freeze"},
		"zone": {with(flaggerv1.RolloutSchedule{TimeZone: "Berlin"}), flaggerv1.ValidationOptions{},
			"spec.analysis.schedule.timeZone: Invalid value: \"Berlin\": is no time zone"},
		"under way": {with(flaggerv1.RolloutSchedule{UnderWay: "Stop"}), flaggerv1.ValidationOptions{}, "spec.analysis.schedule.underWay: Unsupported value"},
		"skipped analysis": {func(c *flaggerv1.Canary) {
			with(flaggerv1.RolloutSchedule{TimeZone: "Berlin"})(c)
			c.Spec.SkipAnalysis = true
		}, flaggerv1.ValidationOptions{}, "spec.analysis.schedule.timeZone"},
	})
}
