package v1beta1

// NoDataPolicy is what a check comes to when a metric has nothing to judge by.
// +kubebuilder:validation:Enum="";fail;hold;pass
type NoDataPolicy string

// Policies for metrics without data.
const (
	// NoDataFail is a failed check.
	NoDataFail NoDataPolicy = "fail"
	// NoDataHold keeps the rollout at its step.
	NoDataHold NoDataPolicy = "hold"
	// NoDataPass lets the rollout go on when the metrics server answers and has no data. One that does not answer
	// is a failed check all the same.
	NoDataPass NoDataPolicy = "pass"
)

// MetricMode is whether a metric decides.
// +kubebuilder:validation:Enum="";enforce;observe
type MetricMode string

// Modes of metrics.
const (
	// ModeEnforce is the default.
	ModeEnforce MetricMode = "enforce"
	// ModeObserve judges a metric and tells of it, and lets it decide nothing.
	ModeObserve MetricMode = "observe"
)

// MetricPolicy is what the judgement of a metric leads to.
type MetricPolicy struct {
	// MinSamples is the least number of requests that a value is judged by. With fewer the metric has
	// no data, see noData. Default 0: any number.
	// +kubebuilder:validation:Minimum=0
	// +optional
	MinSamples int32 `json:"minSamples,omitempty"`

	// SamplesQuery counts the requests that the value rests on, for minSamples and for a comparison.
	// It is written like the query of the metric and goes to the same server. Built-in metrics need none.
	// +kubebuilder:validation:MaxLength=65536
	// +optional
	SamplesQuery string `json:"samplesQuery,omitempty"`

	// NoData says what a check comes to when the metric has no value, or too few samples: fail, hold
	// (the rollout stays at its step, also while the metrics server does not answer) or pass. Default:
	// hold where minSamples is set, else fail.
	// +optional
	NoData NoDataPolicy `json:"noData,omitempty"`

	// NoDataLimit is for how long a metric may be without data before that is a failed check after
	// all, for example 10m. Default: progressDeadlineSeconds.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +optional
	NoDataLimit string `json:"noDataLimit,omitempty"`

	// Mode is enforce, or observe for a metric that is judged and told of and decides nothing. Default
	// enforce.
	// +optional
	Mode MetricMode `json:"mode,omitempty"`

	// Critical takes the canary back at the first value that is out of bounds, whatever the threshold
	// of the analysis.
	// +optional
	Critical bool `json:"critical,omitempty"`

	// Warmup is how long the canary has to have had traffic before this metric is judged, for example
	// 2m. The rollout stays at its step meanwhile. Default 0.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +optional
	Warmup string `json:"warmup,omitempty"`

	// Comparison judges the canary by what the same query says about the primary, in place of a
	// constant.
	// +optional
	Comparison *MetricComparison `json:"comparison,omitempty"`
}

// MetricComparison says how far the canary may be from its primary. Counts are compared by a
// sequential test: request-success-rate, request-duration with slowerThan, and a metric of your own
// with falseAlarmRate. The values of others are compared as they are.
// +kubebuilder:validation:XValidation:rule="has(self.difference) != has(self.ratio)",message="set exactly one of difference and ratio"
type MetricComparison struct {
	// Difference is the range of good values of canary minus primary: percentage points for rates
	// and for shares of requests, else in the unit of the metric.
	// +optional
	Difference *CanaryThresholdRange `json:"difference,omitempty"`

	// Ratio is the range of good values of canary divided by primary.
	// +optional
	Ratio *CanaryThresholdRange `json:"ratio,omitempty"`

	// SlowerThan makes request-duration the share, in percent, of requests that took longer than
	// this, for example 500ms. It has to be a bound of the histogram's buckets.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +optional
	SlowerThan string `json:"slowerThan,omitempty"`

	// FalseAlarmRate is the probability, at the most, that the test fails a canary in a run that is
	// within the range, all steps together. Default 0.05. A metric of your own that sets it counts bad
	// requests by its query, and all by samplesQuery.
	// +kubebuilder:validation:Minimum=0.000001
	// +kubebuilder:validation:Maximum=0.5
	// +optional
	FalseAlarmRate float64 `json:"falseAlarmRate,omitempty"`
}
