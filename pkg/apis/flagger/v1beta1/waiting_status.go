package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// WaitingStatus is about a change of the target that nobody refuses and whose rollout may not begin
// yet. It is there only as long as the change waits.
type WaitingStatus struct {
	// Since is when the change began to wait. Of several that wait for their turn the oldest comes
	// first. A newer revision that takes the place of one that waits keeps its place.
	Since metav1.MicroTime `json:"since"`

	// Position is the place among all changes that wait for their turn, from 1 on. It is written when
	// the wait begins, and again each time that it is down to half of what was written. It is absent
	// without -max-concurrent-rollouts.
	// +optional
	Position int32 `json:"position,omitempty"`

	// PositionInNamespace is the same for those of the namespace. It is absent without
	// -max-concurrent-rollouts-per-namespace.
	// +optional
	PositionInNamespace int32 `json:"positionInNamespace,omitempty"`

	// Canaries is about the wait for those of spec.dependsOn.
	// +optional
	Canaries *WaitingForCanaries `json:"canaries,omitempty"`
}

// UrgentStatus is the annotation flagger.app/urgent that was used up last.
type UrgentStatus struct {
	// Value of the annotation.
	Value string `json:"value"`

	// Run is the rollout that it has let through.
	Run int64 `json:"run"`
}

// WaitingForCanaries is about the wait of one revision for the Canaries that come first.
type WaitingForCanaries struct {
	// Revision of the target that waits.
	Revision string `json:"revision"`

	// SeenAt is when that was first seen.
	SeenAt metav1.MicroTime `json:"seenAt"`

	// Since is since when any of them has had something left to promote. The deadline counts from
	// here. It is absent while none has.
	// +optional
	Since *metav1.MicroTime `json:"since,omitempty"`

	// Overdue says that the deadline has passed and was told, and the change begins all the same.
	// +optional
	Overdue bool `json:"overdue,omitempty"`
}
