package v1beta1

// CanaryAnalysis says how a new revision gets traffic and how it is judged.
//
// The strategy follows from the fields: match with iterations is an A/B test, iterations alone
// is blue/green, stepWeight or stepWeights is a progressive canary.
// +kubebuilder:validation:XValidation:rule="[has(self.iterations), has(self.stepWeight), has(self.stepWeights)].exists_one(x, x)",message="set exactly one of iterations (blue/green, or A/B with match), stepWeight and stepWeights (progressive)"
// +kubebuilder:validation:XValidation:rule="!has(self.canaryMatch) || size(self.canaryMatch) == 0 || !has(self.iterations) && (!has(self.match) || size(self.match) == 0)",message="canaryMatch goes with stepWeight or stepWeights, and without match",fieldPath=".canaryMatch"
type CanaryAnalysis struct {
	// Interval between two analysis steps, for example 30s, 1m30s or 1h. Default 60s; values
	// below the operator's minimum (10s) mean the minimum.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	Interval string `json:"interval"`

	// Threshold is the number of failed checks at which the revision is rolled back. 0 means 1.
	// +kubebuilder:validation:Minimum=0
	Threshold int32 `json:"threshold"`

	// Schedule says when rollouts may begin. Default: at any time. It holds with skipAnalysis as well.
	// +optional
	Schedule *RolloutSchedule `json:"schedule,omitempty"`

	// Iterations is the number of checks of a blue/green or A/B analysis.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Iterations int32 `json:"iterations,omitempty"`

	// Mirror copies requests to the canary before it gets traffic of its own.
	// +optional
	Mirror bool `json:"mirror,omitempty"`

	// MirrorWeight is the percentage of requests copied. 0 means the provider's default, 100.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +optional
	MirrorWeight int32 `json:"mirrorWeight,omitempty"`

	// MaxWeight is the percentage of traffic at which the canary is promoted. 0 means 100.
	// Ignored where stepWeights is set.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +optional
	MaxWeight int32 `json:"maxWeight,omitempty"`

	// StepWeight is the percentage of traffic added to the canary at each step.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +optional
	StepWeight int32 `json:"stepWeight,omitempty"`

	// StepWeights are the percentages the canary carries step by step, ascending. It is
	// promoted after the last.
	// +kubebuilder:validation:MaxItems=200
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || (self.isSorted() && self.all(w, w == self[size(self) - 1] || self.exists_one(v, v == w)))",message="stepWeights must be ascending, for example [5, 20, 50]"
	// +kubebuilder:validation:items:Minimum=0
	// +kubebuilder:validation:items:Maximum=100
	// +optional
	StepWeights []int32 `json:"stepWeights,omitempty"`

	// StepWeightPromotion is the percentage of traffic given back to the primary at each step
	// after its update. 0 means all at once.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +optional
	StepWeightPromotion int32 `json:"stepWeightPromotion,omitempty"`

	// PrimaryReadyThreshold is the percentage of the primary's pods that must be available.
	// Default 100.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +optional
	PrimaryReadyThreshold *int32 `json:"primaryReadyThreshold,omitempty"`

	// CanaryReadyThreshold is the percentage of the canary's pods that must be available.
	// Default 100.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +optional
	CanaryReadyThreshold *int32 `json:"canaryReadyThreshold,omitempty"`

	// Match says which requests go to the canary in an A/B test: those that meet any of these
	// conditions.
	// +kubebuilder:validation:MaxItems=128
	// +optional
	Match []AnalysisMatch `json:"match,omitempty"`

	// CanaryMatch says which requests go to the canary in a progressive run from its first step on,
	// whatever its weight: those that meet any of these conditions. All others are shared out.
	// +kubebuilder:validation:MaxItems=128
	// +optional
	CanaryMatch []AnalysisMatch `json:"canaryMatch,omitempty"`

	// Metrics are checked at every step.
	// +kubebuilder:validation:MaxItems=128
	// +optional
	Metrics []CanaryMetric `json:"metrics,omitempty"`

	// Split is what is made of the share of requests that the canary really gets.
	// +optional
	Split *SplitPolicy `json:"split,omitempty"`

	// Alerts are sent when a rollout starts, waits or ends.
	// +kubebuilder:validation:MaxItems=128
	// +optional
	Alerts []CanaryAlert `json:"alerts,omitempty"`

	// Webhooks are called at certain points of a rollout, as tests, gates or listeners.
	// +kubebuilder:validation:MaxItems=128
	// +optional
	Webhooks []CanaryWebhook `json:"webhooks,omitempty"`

	// SessionAffinity keeps a user on the side that answered the first request, by a cookie.
	// +optional
	SessionAffinity *SessionAffinity `json:"sessionAffinity,omitempty"`
}

// AnalysisMatch is one condition on requests of an A/B test; all of its parts must hold.
type AnalysisMatch struct {
	// Headers are conditions on request headers, by lower-case name.
	// +kubebuilder:validation:MaxProperties=128
	// +optional
	Headers map[string]StringMatch `json:"headers,omitempty"`

	// QueryParams are conditions on query parameters, by name.
	// +kubebuilder:validation:MaxProperties=128
	// +optional
	QueryParams map[string]StringMatch `json:"queryParams,omitempty"`

	// SourceLabels are labels of the client's pod (Istio).
	// +optional
	SourceLabels map[string]string `json:"sourceLabels,omitempty"`
}

// CanaryMetric is one metric and the range its value must be in.
// +kubebuilder:validation:XValidation:rule="!has(self.comparison) || !has(self.thresholdRange) && !has(self.threshold)",message="the primary takes the place of a constant: remove thresholdRange and threshold, or comparison",fieldPath=".comparison"
// +kubebuilder:validation:XValidation:rule="!has(self.critical) || !self.critical || !has(self.mode) || self.mode != 'observe'",message="a metric that is only observed takes no canary back: remove critical, or set mode to enforce",fieldPath=".critical"
// +kubebuilder:validation:XValidation:rule="has(self.templateRef) || has(self.query) || self.name in ['request-success-rate', 'request-duration', 'istio_requests_total', 'istio_request_duration_seconds_bucket']",message="no usable metrics template and query were configured: set templateRef to a MetricTemplate, or name one of the built-in metrics request-success-rate and request-duration"
type CanaryMetric struct {
	// Name of the metric. request-success-rate (percent) and request-duration (milliseconds)
	// are built in; any other name needs a templateRef.
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// Interval is the time window of the query, for example 1m. Default 1m.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +optional
	Interval string `json:"interval,omitempty"`

	// Threshold is the minimum of request-success-rate and the maximum of any other metric.
	//
	// Deprecated: use thresholdRange.
	// +optional
	Threshold float64 `json:"threshold,omitempty"`

	// ThresholdRange is the range, bounds included, of good values.
	// +optional
	ThresholdRange *CanaryThresholdRange `json:"thresholdRange,omitempty"`

	// Query is a Prometheus query.
	//
	// Deprecated: use templateRef.
	// +optional
	Query string `json:"query,omitempty"`

	// TemplateRef names a MetricTemplate.
	// +optional
	TemplateRef *CrossNamespaceObjectReference `json:"templateRef,omitempty"`

	// TemplateVariables are values for {{ variables.<name> }} in the template's query.
	// +optional
	TemplateVariables map[string]string `json:"templateVariables,omitempty"`

	MetricPolicy `json:",inline"`
}

// CanaryThresholdRange is a range of good values, bounds included.
type CanaryThresholdRange struct {
	// Min is the smallest good value. Default: no lower bound.
	// +optional
	Min *float64 `json:"min,omitempty"`

	// Max is the largest good value. Default: no upper bound.
	// +optional
	Max *float64 `json:"max,omitempty"`
}

// AlertSeverity is how grave an alert is.
// +kubebuilder:validation:Enum="";info;warn;error
type AlertSeverity string

// Severities of alerts, in ascending order.
const (
	SeverityInfo  AlertSeverity = "info"
	SeverityWarn  AlertSeverity = "warn"
	SeverityError AlertSeverity = "error"
)

// CanaryAlert sends alerts of a rollout to a provider.
type CanaryAlert struct {
	// Name of the alert.
	Name string `json:"name"`

	// Severity is the least severity sent. Default info.
	// +optional
	Severity AlertSeverity `json:"severity,omitempty"`

	// ProviderRef names an AlertProvider.
	ProviderRef CrossNamespaceObjectReference `json:"providerRef"`
}

// HookType says when a webhook is called and what its answer means.
// +kubebuilder:validation:Enum="";confirm-rollout;pre-rollout;rollout;confirm-promotion;post-rollout;event;rollback;confirm-traffic-increase
type HookType string

// Types of webhooks.
const (
	// RolloutHook is called at every analysis step; a failure is a failed check. It is the default.
	RolloutHook HookType = "rollout"
	// PreRolloutHook is called before traffic is shifted; a failure is a failed check.
	PreRolloutHook HookType = "pre-rollout"
	// PostRolloutHook is called after a rollout has succeeded or failed.
	PostRolloutHook HookType = "post-rollout"
	// EventHook is called for every event.
	EventHook HookType = "event"
	// RollbackHook is called during the analysis; its success rolls the revision back.
	RollbackHook HookType = "rollback"
	// ConfirmRolloutHook is a gate before a new revision is scaled up.
	ConfirmRolloutHook HookType = "confirm-rollout"
	// ConfirmPromotionHook is a gate before the revision is promoted.
	ConfirmPromotionHook HookType = "confirm-promotion"
	// ConfirmTrafficIncreaseHook is a gate before each increase of the canary's traffic.
	ConfirmTrafficIncreaseHook HookType = "confirm-traffic-increase"
)

// CanaryWebhook is an HTTP endpoint called during a rollout.
type CanaryWebhook struct {
	// Type says when the webhook is called. Default rollout.
	// +optional
	Type HookType `json:"type,omitempty"`

	// Name of the webhook, shown in events.
	Name string `json:"name"`

	// URL to send the request to: http or https.
	// +kubebuilder:validation:MaxLength=8192
	// +kubebuilder:validation:XValidation:rule="self.matches('^[hH][tT][tT][pP][sS]?://[^/]')",message="url must be absolute, for example http://flagger-loadtester.test/"
	URL string `json:"url"`

	// MuteAlert sends no alert while this gate is waited for.
	// +optional
	MuteAlert bool `json:"muteAlert,omitempty"`

	// Timeout of one attempt, for example 30s. Default 10s.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +optional
	Timeout string `json:"timeout,omitempty"`

	// Retries is the number of further attempts after a failure. Default 0.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Retries int32 `json:"retries,omitempty"`

	// Metadata is sent along in the request.
	// +optional
	Metadata *map[string]string `json:"metadata,omitempty"`

	// DisableTLS skips the verification of the server's certificate.
	// +optional
	DisableTLS bool `json:"disableTLS,omitempty"`
}

// SessionAffinity describes the cookies that keep a user on one side.
// +kubebuilder:validation:XValidation:rule="has(self.primaryCookieName) ? self.cookieName != self.primaryCookieName : size(self.cookieName) > 0",message="can't use the same cookie name for both primary and cookie name; please update them to be different"
type SessionAffinity struct {
	// CookieName is the name of the cookie set by answers of the canary.
	// +kubebuilder:validation:MaxLength=1024
	CookieName string `json:"cookieName"`

	// PrimaryCookieName is the name of the cookie set by answers of the primary. Default: none
	// is set.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	PrimaryCookieName string `json:"primaryCookieName,omitempty"`

	// Domain attribute of the cookie.
	// +optional
	Domain string `json:"domain,omitempty"`

	// HttpOnly attribute of the cookie.
	// +optional
	HttpOnly bool `json:"httpOnly,omitempty"`

	// MaxAge attribute of the canary's cookie, in seconds. 0 means 86400.
	// +kubebuilder:default=86400
	// +kubebuilder:validation:Minimum=0
	// +optional
	MaxAge int32 `json:"maxAge,omitempty"`

	// Partitioned attribute of the cookie.
	// +optional
	Partitioned bool `json:"partitioned,omitempty"`

	// Path attribute of the cookie.
	// +optional
	Path string `json:"path,omitempty"`

	// SameSite attribute of the cookie.
	// +kubebuilder:validation:Enum=Strict;Lax;None
	// +optional
	SameSite string `json:"sameSite,omitempty"`

	// Secure attribute of the cookie.
	// +optional
	Secure bool `json:"secure,omitempty"`
}
