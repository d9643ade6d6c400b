package convert

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

const (
	// loopInterval is how often a step was taken: the default of -control-loop-interval.
	loopInterval = "10s"
	// failedChecks is how many failed checks take a canary back where the Rollout does not say.
	failedChecks = 5
)

func newLines(input []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(input)) }

// conversion is one Rollout on its way.
type conversion struct {
	*document
	all     []document
	options Options
	notes   []string
}

func (c *conversion) note(format string, args ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

// text reads a field that has to be there.
func (c *conversion) text(path ...string) (string, error) {
	value, _, err := unstructured.NestedFieldNoCopy(c.Object, path...)
	text, ok := value.(string)
	switch field := strings.Join(path, "."); {
	case err != nil:
		return "", c.fault(field, "is not readable: %v: correct it", err)
	case value == nil || ok && text == "":
		return "", c.fault(field, "is missing: a Rollout needs it")
	case !ok:
		return "", c.fault(field, "is %v, and has to be a string: correct it", value)
	}
	return text, nil
}

// canary builds the equivalent of the Rollout.
func (c *conversion) canary() (*v1beta1.Canary, error) {
	kind, err := c.kind()
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, path := range [][]string{
		{"metadata", "name"}, {"spec", "virtualService", "name"}, {"spec", "primary", "name"}, {"spec", "canary", "name"},
	} {
		if names[strings.Join(path, ".")], err = c.text(path...); err != nil {
			return nil, err
		}
	}
	primary, err := c.service("spec", "primary", "host")
	if err != nil {
		return nil, err
	}
	canary, err := c.service("spec", "canary", "host")
	if err != nil {
		return nil, err
	}
	port, err := c.port(names["spec.virtualService.name"], primary, canary)
	if err != nil {
		return nil, err
	}
	analysis, err := c.analysis()
	if err != nil {
		return nil, err
	}
	c.tellUnknown()
	workload := func(name string) v1beta1.LocalObjectReference {
		return v1beta1.LocalObjectReference{APIVersion: "apps/v1", Kind: kind, Name: name}
	}
	own := workload(names["spec.primary.name"])
	return &v1beta1.Canary{
		TypeMeta: metav1.TypeMeta{APIVersion: v1beta1.SchemeGroupVersion.String(), Kind: v1beta1.CanaryKind},
		ObjectMeta: metav1.ObjectMeta{
			Name: c.GetName(), Namespace: c.GetNamespace(), Labels: c.GetLabels(), Annotations: c.annotations(),
		},
		Spec: v1beta1.CanarySpec{
			Provider:   v1beta1.IstioProvider,
			TargetRef:  workload(names["spec.canary.name"]),
			PrimaryRef: &own,
			RouteRef: &v1beta1.LocalObjectReference{
				APIVersion: istioGroup + "/v1beta1", Kind: v1beta1.VirtualServiceKind, Name: names["spec.virtualService.name"],
			},
			Service:  v1beta1.CanaryService{Name: primary, Port: port, PrimaryName: primary, CanaryName: canary},
			Analysis: analysis,
		},
	}, nil
}

// kind is that of both workloads.
func (c *conversion) kind() (string, error) {
	if _, ok, err := unstructured.NestedFieldNoCopy(c.Object, "spec", "targetKind"); err == nil && !ok {
		return "Deployment", nil
	}
	kind, err := c.text("spec", "targetKind")
	if err == nil && kind != "Deployment" {
		return "", c.fault("spec.targetKind", "is %s, and has to be Deployment: correct it", kind)
	}
	return kind, err
}

// annotations are those of the Rollout but for what kubectl has noted about it.
func (c *conversion) annotations() map[string]string {
	annotations := c.GetAnnotations()
	delete(annotations, "kubectl.kubernetes.io/last-applied-configuration")
	return annotations
}

// service is the name of the Service that a host stands for.
func (c *conversion) service(path ...string) (string, error) {
	host, err := c.text(path...)
	if err != nil {
		return "", err
	}
	name, rest, _ := strings.Cut(host, ".")
	namespace, _, _ := strings.Cut(rest, ".")
	if namespace != "" && namespace != c.GetNamespace() {
		return "", c.fault(strings.Join(path, "."), "%s is not in the namespace %q of the Rollout, where the Services of a Canary are: add a Service "+
			"there", host, c.GetNamespace())
	}
	return name, nil
}

// analysis converts spec.canaryAnalysis.
func (c *conversion) analysis() (*v1beta1.CanaryAnalysis, error) {
	a := &v1beta1.CanaryAnalysis{Interval: loopInterval}
	var threshold int64
	for _, number := range []struct {
		field string
		into  func(int64)
		need  bool
	}{
		{"maxWeight", func(n int64) { a.MaxWeight = int32(n) }, true},
		{"stepWeight", func(n int64) { a.StepWeight = int32(n) }, true},
		{"threshold", func(n int64) { threshold = n }, false},
	} {
		field := "spec.canaryAnalysis." + number.field
		value, ok, err := unstructured.NestedFieldNoCopy(c.Object, "spec", "canaryAnalysis", number.field)
		n, whole := asNumber(value)
		switch {
		case err != nil || ok && (!whole || n != float64(int64(n)) || n < 0 || n > 100):
			return nil, c.fault(field, "is %v, and has to be a whole number from 0 to 100: correct it", value)
		case !ok && number.need:
			return nil, c.fault(field, "is missing: a Rollout needs it")
		}
		number.into(int64(n))
	}
	if interval, ok, err := unstructured.NestedString(c.Object, "spec", "canaryAnalysis", "interval"); err == nil && ok {
		a.Interval = interval
	} else {
		c.note("analysis.interval: a step was taken every -control-loop-interval, by default %s. Set what your operator had.", loopInterval)
	}
	if a.Threshold = int32(threshold); threshold == 0 {
		a.Threshold = failedChecks
		c.note("analysis.threshold: the Rollout says nothing. %d failed checks take the canary back unless you set another number.", failedChecks)
	}
	metrics, err := c.metrics()
	a.Metrics = metrics
	return a, err
}

// metrics converts those that are built in. All others have no equivalent.
func (c *conversion) metrics() ([]v1beta1.CanaryMetric, error) {
	list, _, err := unstructured.NestedFieldNoCopy(c.Object, "spec", "canaryAnalysis", "metrics")
	items, ok := list.([]any)
	if err != nil || list != nil && !ok {
		return nil, c.fault("spec.canaryAnalysis.metrics", "is no list: correct it")
	}
	var metrics []v1beta1.CanaryMetric
	for i, item := range items {
		field := fmt.Sprintf("spec.canaryAnalysis.metrics[%d]", i)
		m, ok := item.(map[string]any)
		if !ok {
			return nil, c.fault(field, "is %v, and has to be an object with a name: correct it", item)
		}
		name, _ := m["name"].(string)
		bound, ok := asNumber(m["threshold"])
		if name == "" || !ok {
			return nil, c.fault(field, "needs a name, and a number as its threshold: add what is missing")
		}
		metric := v1beta1.CanaryMetric{Interval: v1beta1.DefaultMetricInterval}
		if interval, ok := m["interval"].(string); ok {
			metric.Interval = interval
		}
		switch name {
		case v1beta1.MetricIstioRequestsTotal, v1beta1.MetricRequestSuccessRate:
			metric.Name, metric.ThresholdRange = v1beta1.MetricRequestSuccessRate, &v1beta1.CanaryThresholdRange{Min: &bound}
		case v1beta1.MetricIstioDuration, v1beta1.MetricRequestDuration:
			metric.Name, metric.ThresholdRange = v1beta1.MetricRequestDuration, &v1beta1.CanaryThresholdRange{Max: &bound}
		default:
			c.note("analysis.metrics: %s is not built in and is left out. Write a MetricTemplate with its query, and name that.", name)
			continue
		}
		metrics = append(metrics, metric)
	}
	return metrics, nil
}

func asNumber(value any) (float64, bool) {
	switch n := value.(type) {
	case int64:
		return float64(n), true
	case float64:
		return n, true
	}
	return 0, false
}

// tellUnknown notes the fields that say something which a Canary can't.
func (c *conversion) tellUnknown() {
	known := map[string][]string{
		"spec":                {"targetKind", "virtualService", "primary", "canary", "canaryAnalysis"},
		"spec.virtualService": {"name"}, "spec.primary": {"name", "host"}, "spec.canary": {"name", "host"},
		"spec.canaryAnalysis": {"maxWeight", "stepWeight", "threshold", "interval", "metrics"},
	}
	for _, path := range slices.Sorted(maps.Keys(known)) {
		value, _, err := unstructured.NestedFieldNoCopy(c.Object, strings.Split(path, ".")...)
		fields, ok := value.(map[string]any)
		if err != nil || !ok {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			if !slices.Contains(known[path], name) {
				c.note("%s.%s of the Rollout has no equivalent and is left out.", path, name)
			}
		}
	}
	if c.Object["status"] != nil {
		c.note("The status of the Rollout is left out. If a rollout is under way, let it end first.")
	}
}
