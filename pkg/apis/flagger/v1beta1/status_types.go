package v1beta1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CanaryPhase is the phase of a rollout.
// +kubebuilder:validation:Enum="";Initializing;Initialized;Waiting;Progressing;WaitingPromotion;Promoting;Finalising;Succeeded;Failed;Terminating;Terminated
type CanaryPhase string

// Phases of a rollout.
const (
	// CanaryPhaseInitializing: the primary is being created.
	CanaryPhaseInitializing CanaryPhase = "Initializing"
	// CanaryPhaseInitialized: the primary serves; no revision has been analyzed yet.
	CanaryPhaseInitialized CanaryPhase = "Initialized"
	// CanaryPhaseWaiting: a new revision waits for the approval of its rollout.
	CanaryPhaseWaiting CanaryPhase = "Waiting"
	// CanaryPhaseProgressing: a new revision is analyzed.
	CanaryPhaseProgressing CanaryPhase = "Progressing"
	// CanaryPhaseWaitingPromotion: a good revision waits for the approval of its promotion.
	CanaryPhaseWaitingPromotion CanaryPhase = "WaitingPromotion"
	// CanaryPhasePromoting: the primary is updated and takes the traffic back.
	CanaryPhasePromoting CanaryPhase = "Promoting"
	// CanaryPhaseFinalising: the primary has the traffic, the target is scaled down.
	CanaryPhaseFinalising CanaryPhase = "Finalising"
	// CanaryPhaseSucceeded: the revision was promoted.
	CanaryPhaseSucceeded CanaryPhase = "Succeeded"
	// CanaryPhaseFailed: the revision was taken back.
	CanaryPhaseFailed CanaryPhase = "Failed"
	// CanaryPhaseTerminating: the Canary is being deleted, the target takes the traffic back.
	CanaryPhaseTerminating CanaryPhase = "Terminating"
	// CanaryPhaseTerminated: the target has the traffic back.
	CanaryPhaseTerminated CanaryPhase = "Terminated"
)

// CanaryConditionType is the type of a condition.
type CanaryConditionType string

const (
	// PromotedType is true once the latest revision serves as primary, false once it failed.
	PromotedType CanaryConditionType = "Promoted"
	// HealthyType is false while something is wrong or waited for; the message names the object
	// or field and the remedy.
	HealthyType CanaryConditionType = "Healthy"
	// ReadyType, ReconcilingType and StalledType are those of kstatus, which tools of GitOps wait
	// for. They are written where the operator is told to.
	ReadyType       CanaryConditionType = "Ready"
	ReconcilingType CanaryConditionType = "Reconciling"
	StalledType     CanaryConditionType = "Stalled"
)

// CanaryCondition is one observation about an object.
type CanaryCondition struct {
	// Type of the condition.
	Type CanaryConditionType `json:"type"`

	// Status of the condition: True, False or Unknown.
	Status corev1.ConditionStatus `json:"status"`

	// LastUpdateTime is when the condition was last written.
	// +optional
	LastUpdateTime metav1.Time `json:"lastUpdateTime,omitempty,omitzero"`

	// LastTransitionTime is when status last changed.
	// +optional
	LastTransitionTime metav1.Time `json:"lastTransitionTime,omitempty,omitzero"`

	// Reason is one word for the last change.
	Reason string `json:"reason"`

	// Message tells a human about the last change.
	// +optional
	Message string `json:"message,omitempty"`
}

// CanaryStatus is how far a rollout has come.
type CanaryStatus struct {
	// Phase of the rollout.
	// +optional
	Phase CanaryPhase `json:"phase"`

	// FailedChecks counts the failed checks of this analysis.
	// +optional
	FailedChecks int32 `json:"failedChecks"`

	// CanaryWeight is the percentage of traffic the canary carries.
	// +optional
	CanaryWeight int32 `json:"canaryWeight"`

	// Iterations counts the iterations of a blue/green or A/B analysis.
	// +optional
	Iterations int32 `json:"iterations"`

	// PreviousSessionAffinityCookie is the cookie of the last run, name=value, to be deleted
	// from browsers.
	// +optional
	PreviousSessionAffinityCookie string `json:"previousSessionAffinityCookie,omitempty"`

	// SessionAffinityCookie is the cookie of the canary in this run, name=value.
	// +optional
	SessionAffinityCookie string `json:"sessionAffinityCookie,omitempty"`

	// PrimarySessionAffinityCookie is the cookie of the primary, name=value.
	// +optional
	PrimarySessionAffinityCookie string `json:"primarySessionAffinityCookie,omitempty"`

	// TrackedConfigs are the ConfigMaps and Secrets of the last revision: configmap/<name> or
	// secret/<name> to checksum. It is written for Flagger, should it be put back.
	// +optional
	TrackedConfigs *map[string]string `json:"trackedConfigs,omitempty"`

	// LastAppliedSpec is Flagger's hash of the last revision of the target that was seen. It is
	// written for Flagger, should it be put back.
	// +optional
	LastAppliedSpec string `json:"lastAppliedSpec,omitempty"`

	// LastPromotedSpec is Flagger's hash of the revision the primary runs. It is written for
	// Flagger, should it be put back.
	// +optional
	LastPromotedSpec string `json:"lastPromotedSpec,omitempty"`

	// LastTransitionTime is when this status last changed.
	// +optional
	LastTransitionTime metav1.Time `json:"lastTransitionTime,omitempty,omitzero"`

	// ObservedGeneration is the generation of the Canary that its conditions are about. It is
	// written together with the condition Ready.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Rollout is the operator's own record of the rollout.
	// +optional
	Rollout *RolloutStatus `json:"rollout,omitempty"`

	// Conditions of the rollout. Promoted tells whether the latest revision serves as primary.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []CanaryCondition `json:"conditions,omitempty"`
}
