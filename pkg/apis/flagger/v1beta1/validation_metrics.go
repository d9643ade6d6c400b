package v1beta1

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// builtIn is whether the operator knows the queries of the metric.
func (m *CanaryMetric) builtIn() bool {
	names := []string{MetricRequestSuccessRate, MetricRequestDuration, MetricIstioRequestsTotal, MetricIstioDuration}
	return m.Query == "" && m.TemplateRef == nil && slices.Contains(names, m.Name)
}

// isRate is whether higher values of a built-in metric are better.
func (m *CanaryMetric) isRate() bool {
	return m.builtIn() && (m.Name == MetricRequestSuccessRate || m.Name == MetricIstioRequestsTotal)
}

func validatePolicy(m *CanaryMetric, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	durations := []struct{ name, value string }{{"noDataLimit", m.NoDataLimit}, {"warmup", m.Warmup}}
	for _, d := range durations {
		if err := durationError(path.Child(d.name), d.value); err != nil {
			errs = append(errs, err)
		}
	}
	if policies := []NoDataPolicy{"", NoDataFail, NoDataHold, NoDataPass}; !slices.Contains(policies, m.NoData) {
		errs = append(errs, field.NotSupported(path.Child("noData"), m.NoData, policies[1:]))
	}
	if modes := []MetricMode{"", ModeEnforce, ModeObserve}; !slices.Contains(modes, m.Mode) {
		errs = append(errs, field.NotSupported(path.Child("mode"), m.Mode, modes[1:]))
	}
	if m.NoDataLimit != "" && m.GetNoData() == NoDataFail {
		errs = append(errs, field.Forbidden(path.Child("noDataLimit"), "no data is a failed check at once: set noData to hold or pass, or remove noDataLimit"))
	}
	if m.Critical && m.Mode == ModeObserve {
		errs = append(errs, field.Forbidden(path.Child("critical"), "a metric that is only observed takes no canary back: remove critical, or set mode to enforce"))
	}
	errs = append(errs, validateSamples(m, path)...)
	if m.Comparison != nil {
		errs = append(errs, validateComparison(m, path)...)
	}
	return errs
}

func validateSamples(m *CanaryMetric, path *field.Path) field.ErrorList {
	counted := m.MinSamples > 0 || m.Comparison != nil && m.Comparison.FalseAlarmRate > 0
	switch {
	case m.MinSamples < 0:
		return field.ErrorList{field.Invalid(path.Child("minSamples"), m.MinSamples, "set a number of requests, 0 or more")}
	case m.builtIn() && m.SamplesQuery != "":
		return field.ErrorList{field.Forbidden(path.Child("samplesQuery"), "the requests of "+m.Name+" are counted by a query that is built in: remove it")}
	case !m.builtIn() && counted && m.SamplesQuery == "":
		return field.ErrorList{field.Required(path.Child("samplesQuery"), "write a query that counts the requests which the value rests on")}
	default:
		return nil
	}
}

func validateComparison(m *CanaryMetric, metric *field.Path) field.ErrorList {
	var errs field.ErrorList
	c, path := m.Comparison, metric.Child("comparison")
	if m.ThresholdRange != nil || m.Threshold != 0 {
		errs = append(errs, field.Forbidden(path, "the primary takes the place of a constant: remove thresholdRange and threshold, or comparison"))
	}
	if (c.Difference != nil) == (c.Ratio != nil) {
		errs = append(errs, field.Forbidden(path, "set exactly one of difference and ratio"))
	}
	if err := durationError(path.Child("slowerThan"), c.SlowerThan); err != nil {
		errs = append(errs, err)
	}
	if c.SlowerThan != "" && (!m.builtIn() || m.isRate()) {
		errs = append(errs, field.Forbidden(path.Child("slowerThan"), "only the histogram of request-duration is known: remove it, or write a query that counts slow requests"))
	}
	if err := falseAlarmError(path, c.FalseAlarmRate); err != nil {
		errs = append(errs, err)
	}
	if c.FalseAlarmRate != 0 && m.builtIn() && !m.isRate() && c.SlowerThan == "" {
		errs = append(errs, field.Required(path.Child("slowerThan"), "a percentile can't be tested, a share of requests can: say which are slow, or remove falseAlarmRate"))
	}
	return append(errs, validateComparedRange(m, path)...)
}

// validateComparedRange checks the bounds. A test has one hypothesis, so it takes the bound on the side where the canary is worse.
func validateComparedRange(m *CanaryMetric, path *field.Path) field.ErrorList {
	c, good := m.Comparison, m.Comparison.GetRange()
	name := "difference"
	if c.Difference == nil {
		name = "ratio"
	}
	path = path.Child(name)
	neutral := 0.0
	if name == "ratio" {
		neutral = 1
	}
	tested := m.isRate() || m.builtIn() && c.SlowerThan != "" || !m.builtIn() && c.FalseAlarmRate > 0
	switch {
	case good.Min == nil && good.Max == nil:
		return field.ErrorList{field.Required(path, "set min, max or both")}
	case good.Min != nil && good.Max != nil && *good.Min > *good.Max:
		return field.ErrorList{field.Invalid(path, *good.Min, "min is greater than max: exchange them")}
	case m.isRate() && (good.Max != nil || *good.Min > neutral || name == "ratio" && *good.Min < 0):
		return field.ErrorList{field.Invalid(path, field.OmitValueType{}, fmt.Sprintf("a lower rate is worse: set min alone, to %v or less", neutral))}
	case tested && !m.isRate() && (good.Min != nil || *good.Max < neutral):
		return field.ErrorList{field.Invalid(path, field.OmitValueType{}, fmt.Sprintf("a greater share of bad requests is worse: set max alone, to %v or more", neutral))}
	default:
		return nil
	}
}

func falseAlarmError(path *field.Path, rate float64) *field.Error {
	if rate != 0 && (rate < 1e-6 || rate > 0.5) {
		return field.Invalid(path.Child("falseAlarmRate"), rate, "set a probability from 0.000001 to 0.5, for example 0.05")
	}
	return nil
}

func validateSplit(a *CanaryAnalysis, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	s := a.Split
	if modes := []SplitMode{"", SplitObserve, SplitEnforce, SplitIgnore}; !slices.Contains(modes, s.Mode) {
		errs = append(errs, field.NotSupported(path.Child("mode"), s.Mode, modes[1:]))
	}
	if s.Tolerance < 0 || s.Tolerance > 100 {
		errs = append(errs, field.Invalid(path.Child("tolerance"), s.Tolerance, "set percentage points from 1 to 100, or remove it"))
	}
	if err := falseAlarmError(path, s.FalseAlarmRate); err != nil {
		errs = append(errs, err)
	}
	if err := durationError(path.Child("limit"), s.Limit); err != nil {
		errs = append(errs, err)
	}
	if other := a.NoShare(); s.Mode == SplitEnforce && other != "" {
		errs = append(errs, field.Forbidden(path.Child("mode"), "with "+other+" no share of all requests is asked for: remove "+other+", or set mode to observe"))
	}
	return errs
}

// validateSides finds what asks for both sides where there is nothing that tells one from the other.
func validateSides(c *Canary, opts ValidationOptions, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	provider := c.GetProvider(opts.Provider)
	problem := ""
	switch provider {
	case ApisixProvider, KnativeProvider:
		problem = "the built-in metrics of provider " + provider + " do not tell the primary from the canary: "
		for i := range c.GetAnalysis().Metrics {
			if m := &c.GetAnalysis().Metrics[i]; m.Comparison != nil && m.builtIn() {
				errs = append(errs, field.Forbidden(path.Child("metrics").Index(i).Child("comparison"), problem+"remove it, or use templateRef"))
			}
		}
	case KubernetesProvider:
		problem = "provider " + provider + " shifts no weights: "
	}
	if s := c.GetAnalysis().Split; s != nil && s.Mode != SplitIgnore && problem != "" {
		errs = append(errs, field.Forbidden(path.Child("split"), problem+"remove it, or set mode to ignore"))
	}
	return errs
}
