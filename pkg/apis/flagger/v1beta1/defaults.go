package v1beta1

import (
	"cmp"
	"strings"
	"time"
)

const (
	// DefaultAnalysisInterval is the time between two analysis steps where none is set.
	DefaultAnalysisInterval = 60 * time.Second
	// MinAnalysisInterval is the shortest time between two analysis steps, unless a flag of the
	// operator says otherwise.
	MinAnalysisInterval = 10 * time.Second
	// DefaultMetricInterval is the time window of a metric where none is set.
	DefaultMetricInterval = "1m"
	// DefaultFalseAlarmRate is that of a sequential test where none is set.
	DefaultFalseAlarmRate = 0.05
	// DefaultSplitFalseAlarmRate is that of the test of a split where none is set.
	DefaultSplitFalseAlarmRate = 0.01
	// DefaultProgressDeadlineSeconds is how long a workload may take to become ready.
	DefaultProgressDeadlineSeconds = 600
	// DefaultReadyThreshold is the percentage of pods that must be available.
	DefaultReadyThreshold = 100
	// DefaultDependsOnDelay is how long a change waits at least for others that come with it, and
	// DefaultDependsOnDeadline how long for their promotion.
	DefaultDependsOnDelay    = 10 * time.Second
	DefaultDependsOnDeadline = time.Hour
	// DefaultCookieMaxAge is how long, in seconds, a session stays on the canary.
	DefaultCookieMaxAge = 86400
)

// KnativeAPIVersion is the one apiVersion in which Knative Services are served.
const KnativeAPIVersion = "serving.knative.dev/v1"

const (
	knativeGroup = "serving.knative.dev/"
	serviceKind  = "Service"
)

// GetAnalysis returns spec.analysis, else its old form spec.canaryAnalysis, else an empty
// analysis, never nil. The result must not be changed.
func (c *Canary) GetAnalysis() *CanaryAnalysis {
	switch {
	case c.Spec.Analysis != nil:
		return c.Spec.Analysis
	case c.Spec.CanaryAnalysis != nil:
		return c.Spec.CanaryAnalysis
	default:
		return &CanaryAnalysis{}
	}
}

// SkipAnalysis tells whether new revisions are promoted without analysis: because the spec says
// so, or because it has none.
func (c *Canary) SkipAnalysis() bool {
	return c.Spec.SkipAnalysis || (c.Spec.Analysis == nil && c.Spec.CanaryAnalysis == nil)
}

// GetAnalysisInterval returns the time between two analysis steps, at least minimum. An interval
// that is missing or no duration is the default of 60 seconds.
func (c *Canary) GetAnalysisInterval(minimum time.Duration) time.Duration {
	interval, err := time.ParseDuration(c.GetAnalysis().Interval)
	if err != nil {
		interval = DefaultAnalysisInterval
	}
	return max(interval, minimum)
}

// GetAnalysisThreshold returns the number of failed checks at which a revision is rolled back,
// at least 1.
func (c *Canary) GetAnalysisThreshold() int32 {
	return max(c.GetAnalysis().Threshold, 1)
}

// GetAnalysisPrimaryReadyThreshold returns the percentage of the primary's pods that must be
// available.
func (c *Canary) GetAnalysisPrimaryReadyThreshold() int32 {
	return valueOr(c.GetAnalysis().PrimaryReadyThreshold, DefaultReadyThreshold)
}

// GetAnalysisCanaryReadyThreshold returns the percentage of the canary's pods that must be
// available.
func (c *Canary) GetAnalysisCanaryReadyThreshold() int32 {
	return valueOr(c.GetAnalysis().CanaryReadyThreshold, DefaultReadyThreshold)
}

// GetProgressDeadlineSeconds returns how long a workload may take to become ready.
func (c *Canary) GetProgressDeadlineSeconds() int32 {
	return valueOr(c.Spec.ProgressDeadlineSeconds, DefaultProgressDeadlineSeconds)
}

// GetProvider returns the name of the mesh or ingress: spec.provider, else the given default.
func (c *Canary) GetProvider(defaultProvider string) string {
	if c.Spec.Provider != "" {
		return c.Spec.Provider
	}
	return defaultProvider
}

// GetPrimaryName returns the name of the primary workload.
func (c *Canary) GetPrimaryName() string {
	if c.Spec.PrimaryRef != nil {
		return c.Spec.PrimaryRef.Name
	}
	return c.Spec.TargetRef.Name + PrimarySuffix
}

// HasOwnPrimary tells whether the primary and the Services of both sides are the user's own.
func (c *Canary) HasOwnPrimary() bool { return c.Spec.PrimaryRef != nil }

// OwnRoute returns the kind and the name of the user's route whose weights a provider shifts in place of routes
// that it makes, empty if there is none.
func (c *Canary) OwnRoute(provider string) (kind, name string) {
	ref := c.Spec.RouteRef
	if ref == nil || ref.Name == "" || ref.Kind != RouteKind(provider) {
		return "", ""
	}
	return ref.Kind, ref.Name
}

// RouteKind is the kind of routes of users that a provider can shift weights in, empty if there is none.
func RouteKind(provider string) string {
	switch {
	case provider == IstioProvider:
		return VirtualServiceKind
	case strings.HasPrefix(provider, GatewayAPIProvider):
		return HTTPRouteKind
	}
	return ""
}

// GetServiceNames returns the names of the three Services. With a primary of the user's, the first
// stands for the Canary and need not exist.
func (c *Canary) GetServiceNames() (apex, primary, canary string) {
	apex = c.Spec.Service.Name
	if apex == "" {
		apex = c.Spec.TargetRef.Name
	}
	primary, canary = apex+PrimarySuffix, apex+CanarySuffix
	if c.HasOwnPrimary() {
		primary, canary = cmp.Or(c.Spec.Service.PrimaryName, primary), cmp.Or(c.Spec.Service.CanaryName, canary)
	}
	return apex, primary, canary
}

// IsKnative tells whether the target is a Knative Service.
func (c *Canary) IsKnative() bool {
	return c.Spec.TargetRef.APIVersion == KnativeAPIVersion && c.Spec.TargetRef.Kind == serviceKind
}

// SharesIngress tells whether other Canaries may have canaries behind the Ingress spec.ingressRef.
func (c *Canary) SharesIngress() bool { return c.Annotations[OwnPathsAnnotation] == "true" }

// IsCoreService tells whether the target is a Service of Kubernetes itself. A Knative Service of a
// version that is not served is neither.
func (c *Canary) IsCoreService() bool {
	return c.Spec.TargetRef.Kind == serviceKind && !strings.HasPrefix(c.Spec.TargetRef.APIVersion, knativeGroup)
}

// DeploymentStrategy returns what the fields of the analysis amount to: an A/B test with match
// and iterations, blue/green with iterations alone, else a progressive canary.
func (c *Canary) DeploymentStrategy() string {
	analysis := c.GetAnalysis()
	switch {
	case analysis.Iterations > 0 && len(analysis.Match) > 0:
		return DeploymentStrategyABTesting
	case analysis.Iterations > 0:
		return DeploymentStrategyBlueGreen
	default:
		return DeploymentStrategyCanary
	}
}

// GetSplit returns what is made of the share of requests that the canary gets, with the defaults in, but for the limit.
func (a *CanaryAnalysis) GetSplit() SplitPolicy {
	var p SplitPolicy
	if a.Split != nil {
		p = *a.Split
	}
	p.Mode = cmp.Or(p.Mode, SplitObserve)
	p.FalseAlarmRate = cmp.Or(p.FalseAlarmRate, DefaultSplitFalseAlarmRate)
	return p
}

// GetLimit returns how long a step is held, by default as long as given.
func (p *SplitPolicy) GetLimit(otherwise time.Duration) time.Duration {
	if limit, err := time.ParseDuration(p.Limit); err == nil {
		return limit
	}
	return otherwise
}

// HasChecks tells whether a metrics server is asked anything at a step.
func (a *CanaryAnalysis) HasChecks() bool {
	return len(a.Metrics) > 0 || a.Split != nil && a.Split.Mode != SplitIgnore
}

// NoShare returns the field for which the weights of the analysis are no shares of all requests, empty if they are.
func (a *CanaryAnalysis) NoShare() string {
	switch {
	case a.Iterations > 0:
		return "iterations"
	case len(a.Match) > 0:
		return "match"
	case len(a.CanaryMatch) > 0:
		return "canaryMatch"
	case a.SessionAffinity != nil:
		return "sessionAffinity"
	default:
		return ""
	}
}

// GetMetricInterval returns the time window of the metric's query.
func (m *CanaryMetric) GetMetricInterval() string {
	if m.Interval == "" {
		return DefaultMetricInterval
	}
	return m.Interval
}

// GetNoData returns what a check comes to when the metric has nothing to judge by.
func (p *MetricPolicy) GetNoData() NoDataPolicy {
	switch {
	case p.NoData != "":
		return p.NoData
	case p.MinSamples > 0:
		return NoDataHold
	default:
		return NoDataFail
	}
}

// GetNoDataLimit returns how long the metric may be without data, by default as long as given.
func (p *MetricPolicy) GetNoDataLimit(otherwise time.Duration) time.Duration {
	return durationOr(p.NoDataLimit, otherwise)
}

// GetRange returns the range of the difference or else of the ratio.
func (c *MetricComparison) GetRange() CanaryThresholdRange {
	switch {
	case c.Difference != nil:
		return *c.Difference
	case c.Ratio != nil:
		return *c.Ratio
	default:
		return CanaryThresholdRange{}
	}
}

// GetFalseAlarmRate returns the probability, at the most, that a run fails whose canary is good enough.
func (c *MetricComparison) GetFalseAlarmRate() float64 {
	if c.FalseAlarmRate == 0 {
		return DefaultFalseAlarmRate
	}
	return c.FalseAlarmRate
}

// GetDelay returns how long a change waits at least for others that come with it.
func (d *DependsOn) GetDelay() time.Duration { return durationOr(d.Delay, DefaultDependsOnDelay) }

// GetDeadline returns how long a change waits for those that come first.
func (d *DependsOn) GetDeadline() time.Duration {
	return durationOr(d.Deadline, DefaultDependsOnDeadline)
}

// NamespaceOr returns the namespace of the Canary, which by default is the given one.
func (r CanaryReference) NamespaceOr(namespace string) string {
	return cmp.Or(r.Namespace, namespace)
}

// GetType returns when the webhook is called.
func (w *CanaryWebhook) GetType() HookType {
	if w.Type == "" {
		return RolloutHook
	}
	return w.Type
}

// GetSeverity returns the least severity that is sent.
func (a *CanaryAlert) GetSeverity() AlertSeverity {
	if a.Severity == "" {
		return SeverityInfo
	}
	return a.Severity
}

// GetMaxAge returns how long, in seconds, a session stays on the canary.
func (s *SessionAffinity) GetMaxAge() int32 {
	if s.MaxAge == 0 {
		return DefaultCookieMaxAge
	}
	return s.MaxAge
}

// NamespaceOr returns the namespace of the referenced object, which by default is the given one.
func (r CrossNamespaceObjectReference) NamespaceOr(namespace string) string {
	if r.Namespace == "" {
		return namespace
	}
	return r.Namespace
}

// HTTPMatch returns the condition in the form it has in spec.service.match.
func (m AnalysisMatch) HTTPMatch() HTTPMatchRequest {
	return HTTPMatchRequest{Headers: m.Headers, QueryParams: m.QueryParams, SourceLabels: m.SourceLabels}
}

func valueOr(value *int32, otherwise int32) int32 {
	if value == nil {
		return otherwise
	}
	return *value
}

func durationOr(text string, otherwise time.Duration) time.Duration {
	if d, err := time.ParseDuration(text); err == nil {
		return d
	}
	return otherwise
}
