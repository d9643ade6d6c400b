package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Values of RolloutStatus.ServingSide.
const (
	ServingPrimary = "primary"
	ServingCanary  = "canary"
)

// RolloutStatus is the operator's own record of a rollout: what it needs to continue after a
// restart at the point where it stopped. It is written by the operator only.
type RolloutStatus struct {
	// Target is the revision under analysis, or the last one seen.
	// +optional
	Target *RevisionRef `json:"target,omitempty"`

	// Promoted is the revision the primary runs.
	// +optional
	Promoted *RevisionRef `json:"promoted,omitempty"`

	// Failed is the fingerprint of the last revision that failed.
	// +optional
	Failed string `json:"failed,omitempty"`

	// Step counts the traffic steps of this run, from 0.
	// +optional
	Step int32 `json:"step,omitempty"`

	// Stage is the progress inside a phase, in the words of the rule that owns the phase.
	// +optional
	Stage string `json:"stage,omitempty"`

	// StepStartedAt is when this step of this revision began; its deadline counts from here.
	// +optional
	StepStartedAt *metav1.Time `json:"stepStartedAt,omitempty"`

	// RunStartedAt is when the analysis of this revision began.
	// +optional
	RunStartedAt *metav1.Time `json:"runStartedAt,omitempty"`

	// NextCheckAt is when the next analysis step is due.
	// +optional
	NextCheckAt *metav1.MicroTime `json:"nextCheckAt,omitempty"`

	// MirrorActive says that requests are being copied to the canary.
	// +optional
	MirrorActive bool `json:"mirrorActive,omitempty"`

	// ServingSide is the side that carries the traffic outside of an analysis: primary, or
	// canary after a promotion whose primary did not come up. Empty means primary.
	// +kubebuilder:validation:Enum="";primary;canary
	// +optional
	ServingSide string `json:"servingSide,omitempty"`

	// Hooks records effects that have happened, by a key of revision, step and name.
	// +optional
	Hooks map[string]string `json:"hooks,omitempty"`

	// RoutesSettledAt is when the routes were last seen to be in effect as this status wants them.
	// +optional
	RoutesSettledAt *metav1.Time `json:"routesSettledAt,omitempty"`

	// CanaryTrafficZeroSince is since when the canary has been seen to carry no traffic.
	// +optional
	CanaryTrafficZeroSince *metav1.Time `json:"canaryTrafficZeroSince,omitempty"`

	// ObservedGeneration is the generation of the Canary this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
}

// RevisionRef identifies one revision of the target.
type RevisionRef struct {
	// Fingerprint of template and tracked configs, v2:<hex>.
	// +optional
	Fingerprint string `json:"fingerprint,omitempty"`

	// Template is the fingerprint of the template alone, v2:<hex>.
	// +optional
	Template string `json:"template,omitempty"`

	// UID of the target object.
	// +optional
	UID types.UID `json:"uid,omitempty"`

	// Generation of the target object when it was seen with this revision.
	// +optional
	Generation int64 `json:"generation,omitempty"`

	// DeploymentRevision is the deployment.kubernetes.io/revision annotation of the target.
	// +optional
	DeploymentRevision string `json:"deploymentRevision,omitempty"`

	// Configs are the checksums of the tracked ConfigMaps and Secrets: configmap/<name> or
	// secret/<name> to checksum.
	// +optional
	Configs map[string]string `json:"configs,omitempty"`
}
