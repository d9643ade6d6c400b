package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// SplitMode is what follows from a share of requests that is not the one asked for.
// +kubebuilder:validation:Enum="";observe;enforce;ignore
type SplitMode string

// Modes of a split.
const (
	// SplitObserve is the default: the share is read, shown and told of, and decides nothing.
	SplitObserve SplitMode = "observe"
	// SplitEnforce holds the rollout at its step.
	SplitEnforce SplitMode = "enforce"
	// SplitIgnore does not read the share.
	SplitIgnore SplitMode = "ignore"
)

// SplitPolicy is what is made of the share of requests that the canary really gets at a step that
// asks for one.
type SplitPolicy struct {
	// Mode is observe, enforce to hold a step whose share is far from what was asked for, or ignore to
	// read no shares. Default observe.
	// +optional
	Mode SplitMode `json:"mode,omitempty"`

	// Tolerance is by how many percentage points the share may be off. Default: half of the smaller
	// side's share, 2 at the least and 10 at the most.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +optional
	Tolerance int32 `json:"tolerance,omitempty"`

	// FalseAlarmRate is the probability, at the most, that a run is told to be off whose share is
	// within the tolerance, all checks together. Default 0.01.
	// +kubebuilder:validation:Minimum=0.000001
	// +kubebuilder:validation:Maximum=0.5
	// +optional
	FalseAlarmRate float64 `json:"falseAlarmRate,omitempty"`

	// Limit is for how long enforce holds a step. After that every check is a failed one until the
	// share is right. Default: progressDeadlineSeconds.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +optional
	Limit string `json:"limit,omitempty"`
}

// SplitStatus is how requests were divided between the sides before the last check.
type SplitStatus struct {
	// Weight is the percentage of requests that the routes lead to the canary.
	Weight int32 `json:"weight"`

	// Share is the percentage that it got, empty where that is not known.
	// +optional
	Share string `json:"share,omitempty"`

	// CanaryRequests is how many requests the canary got in the last interval.
	// +optional
	CanaryRequests int64 `json:"canaryRequests,omitempty"`

	// PrimaryRequests is how many requests the primary got in the last interval.
	// +optional
	PrimaryRequests int64 `json:"primaryRequests,omitempty"`

	// Bound that the share has to keep.
	// +optional
	Bound string `json:"bound,omitempty"`

	// Outcome is pass, hold for a share that is off, fail if it is so for longer than the limit, or
	// error if it could not be read.
	// +kubebuilder:validation:Enum=pass;fail;hold;error
	Outcome string `json:"outcome"`

	// Observed says that the share decides nothing.
	// +optional
	Observed bool `json:"observed,omitempty"`

	// Reason of an outcome other than pass.
	// +optional
	Reason string `json:"reason,omitempty"`

	// Since is since when the outcome has been another than pass.
	// +optional
	Since *metav1.MicroTime `json:"since,omitempty"`

	// Begun is how often the test began anew in this run, because the share was right.
	// +optional
	Begun int32 `json:"begun,omitempty"`

	// Above is the natural logarithm, in thousandths, of the capital of each bet on too great a share.
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	Above []int64 `json:"above,omitempty"`

	// Below is the same for too small a share.
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	Below []int64 `json:"below,omitempty"`
}
