package v1beta1

// What becomes of a change at the deadline of its dependencies.
const (
	AtDeadlineFail  = "Fail"
	AtDeadlineBegin = "Begin"
)

// DependsOn names Canaries whose changes come first.
type DependsOn struct {
	// Canaries whose newest change is promoted before a change of this one begins. One whose target
	// is at the promoted revision keeps nobody waiting.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	Canaries []CanaryReference `json:"canaries"`

	// Delay is how long a change of this Canary waits at least, so that changes of the others that
	// come with it, as from one commit, are seen, for example 30s. Default 10s.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +optional
	Delay string `json:"delay,omitempty"`

	// Deadline is how long a change waits for the others, for example 30m. Default 1h.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +optional
	Deadline string `json:"deadline,omitempty"`

	// AtDeadline is what becomes of the change then. Fail: it is not rolled out, and the next
	// revision of the target begins anew. Begin: it begins all the same. Default Fail.
	// +kubebuilder:validation:Enum=Fail;Begin
	// +optional
	AtDeadline string `json:"atDeadline,omitempty"`
}

// CanaryReference names a Canary.
type CanaryReference struct {
	// Name of the Canary.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// Namespace of the Canary. Default: the namespace of this one.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Namespace string `json:"namespace,omitempty"`
}
