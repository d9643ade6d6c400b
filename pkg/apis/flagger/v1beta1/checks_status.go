package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Outcomes of metrics.
const (
	OutcomePass  = "pass"
	OutcomeFail  = "fail"
	OutcomeHold  = "hold"
	OutcomeError = "error"
)

// ChecksStatus is what the metrics said at the last check of a run.
type ChecksStatus struct {
	// Run is the analysis that this belongs to.
	// +optional
	Run int64 `json:"run,omitempty"`

	// Check is the number of the last check.
	// +optional
	Check int64 `json:"check,omitempty"`

	// CheckedAt is when the last check was judged. What was counted by then is not counted again.
	// +optional
	CheckedAt *metav1.MicroTime `json:"checkedAt,omitempty"`

	// TrafficSince is when the first requests of this run were led to the canary.
	// +optional
	TrafficSince *metav1.MicroTime `json:"trafficSince,omitempty"`

	// Metrics are the verdicts in the order in which they were reached.
	// +kubebuilder:validation:MaxItems=256
	// +listType=atomic
	// +optional
	Metrics []MetricVerdict `json:"metrics,omitempty"`

	// Split is how the requests were divided, at a step that asks for a share of them.
	// +optional
	Split *SplitStatus `json:"split,omitempty"`
}

// MetricVerdict is what a check made of one metric.
type MetricVerdict struct {
	// Name of the metric.
	Name string `json:"name"`

	// Index is the position of the metric in the analysis.
	// +optional
	Index int32 `json:"index,omitempty"`

	// Source of the value: success-rate or duration of the built-in metrics, inline, template, or none.
	// +optional
	Source string `json:"source,omitempty"`

	// Outcome of the metric: pass, fail, hold or error.
	// +kubebuilder:validation:Enum=pass;fail;hold;error
	Outcome string `json:"outcome"`

	// Observed says that the metric decides nothing.
	// +optional
	Observed bool `json:"observed,omitempty"`

	// Value of the metric, empty if there is none: milliseconds of a request-duration, percent of a
	// rate or a share.
	// +optional
	Value string `json:"value,omitempty"`

	// Primary is the value of the primary in a comparison.
	// +optional
	Primary string `json:"primary,omitempty"`

	// Bound that the value has to keep.
	// +optional
	Bound string `json:"bound,omitempty"`

	// Samples is the number of requests that the value rests on, where they are counted.
	// +optional
	Samples *int64 `json:"samples,omitempty"`

	// Query as it was sent, shortened if it is long.
	// +optional
	Query string `json:"query,omitempty"`

	// Reason of an outcome other than pass.
	// +optional
	Reason string `json:"reason,omitempty"`

	// NoDataSince is since when the metric has been without data.
	// +optional
	NoDataSince *metav1.MicroTime `json:"noDataSince,omitempty"`

	// Evidence is what the checks of this run show in a comparison of counts.
	// +optional
	Evidence *ComparisonEvidence `json:"evidence,omitempty"`
}

// ComparisonEvidence is the state of a sequential test.
type ComparisonEvidence struct {
	// CanaryBad is how many of the requests that the canary answered in this run were bad.
	// +optional
	CanaryBad int64 `json:"canaryBad,omitempty"`

	// CanaryTotal is how many requests the canary answered.
	// +optional
	CanaryTotal int64 `json:"canaryTotal,omitempty"`

	// PrimaryBad is how many of the requests that the primary answered in this run were bad.
	// +optional
	PrimaryBad int64 `json:"primaryBad,omitempty"`

	// PrimaryTotal is how many requests the primary answered.
	// +optional
	PrimaryTotal int64 `json:"primaryTotal,omitempty"`

	// Peak is the natural logarithm, in thousandths, of the strongest evidence against the canary.
	// +optional
	Peak int64 `json:"peak,omitempty"`

	// LogWealth is the natural logarithm, in thousandths, of the capital of each bet.
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	LogWealth []int64 `json:"logWealth,omitempty"`
}
