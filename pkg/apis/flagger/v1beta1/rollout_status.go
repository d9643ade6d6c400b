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

// Values of RolloutStatus.Audience.
const (
	AudienceAll     = "all"
	AudienceMatched = "matched"
)

// RolloutStatus is the operator's own record of a rollout: what it needs to continue after a
// restart at the point where it stopped. It is written by the operator only.
type RolloutStatus struct {
	// TargetRef names the workload whose primary serves. It does not follow spec.targetRef: a
	// Canary keeps to one workload.
	// +optional
	TargetRef *LocalObjectReference `json:"targetRef,omitempty"`

	// PrimaryRef is spec.primaryRef as it was then. A Canary keeps to one primary as well.
	// +optional
	PrimaryRef *LocalObjectReference `json:"primaryRef,omitempty"`

	// Target is the revision that was rolled out last: the one under analysis, or the one that
	// was promoted, taken back or failed.
	// +optional
	Target *RevisionRef `json:"target,omitempty"`

	// Promoted is the revision the primary runs.
	// +optional
	Promoted *RevisionRef `json:"promoted,omitempty"`

	// Run counts the analyses of this Canary, restarts included.
	// +optional
	Run int64 `json:"run,omitempty"`

	// Stage is the progress inside a phase, in the words of the rule that owns the phase.
	// +optional
	Stage string `json:"stage,omitempty"`

	// StageStartedAt is when this step of this revision began; deadlines count from here.
	// +optional
	StageStartedAt *metav1.MicroTime `json:"stageStartedAt,omitempty"`

	// NextCheckAt is when the next analysis step is due.
	// +optional
	NextCheckAt *metav1.MicroTime `json:"nextCheckAt,omitempty"`

	// NextRollbackCheckAt is when the rollback hooks are asked next.
	// +optional
	NextRollbackCheckAt *metav1.MicroTime `json:"nextRollbackCheckAt,omitempty"`

	// Waiting is about a change whose rollout may not begin yet because others come first.
	// +optional
	Waiting *WaitingStatus `json:"waiting,omitempty"`

	// Urgent is the annotation flagger.app/urgent that was used up last: it lets no other rollout
	// through.
	// +optional
	Urgent *UrgentStatus `json:"urgent,omitempty"`

	// UnreadySince is what deadlines count from that don't count from the start of the stage.
	// +optional
	UnreadySince *UnreadySince `json:"unreadySince,omitempty"`

	// ToldHook is the type of the webhooks that keep the rollout at this step, once that was
	// told: a wait is told once.
	// +optional
	ToldHook HookType `json:"toldHook,omitempty"`

	// CanaryDrainedAt is since when the target has been seen to get no traffic. Nothing is
	// scaled down before the propagation delay has passed since then, and what served not
	// before an interval of the analysis has, unless the provider reports its proxies. A wait of
	// at most 15 seconds is kept in mind and not written.
	// +optional
	CanaryDrainedAt *metav1.MicroTime `json:"canaryDrainedAt,omitempty"`

	// StrayPodsSince is since when a target at rest has had pods that no rollout gave it. They
	// go after an interval of the analysis.
	// +optional
	StrayPodsSince *metav1.MicroTime `json:"strayPodsSince,omitempty"`

	// CanaryIdle is set as long as no request was led to the pods of the target in this run.
	// +optional
	CanaryIdle bool `json:"canaryIdle,omitempty"`

	// PrimaryReadySince is since when a primary that is about to get its first requests has been
	// seen ready behind its Service. It gets them when the propagation delay has passed since then:
	// proxies hear of pods as late as of routes. A wait of at most 15 seconds is kept in mind and
	// not written.
	// +optional
	PrimaryReadySince *metav1.MicroTime `json:"primaryReadySince,omitempty"`

	// Mirror says that requests are to be copied to the canary.
	// +optional
	Mirror bool `json:"mirror,omitempty"`

	// Audience says which requests the canary weight is a share of: all, or matched for those
	// that analysis.match picks, the others being for the primary. Empty means that analysis.match
	// decides, as it does while the canary gets nothing.
	// +kubebuilder:validation:Enum="";all;matched
	// +optional
	Audience string `json:"audience,omitempty"`

	// ServingSide is the side that carries the traffic outside of an analysis: primary, or
	// canary after a promotion whose primary did not come up. Empty means primary.
	// +kubebuilder:validation:Enum="";primary;canary
	// +optional
	ServingSide string `json:"servingSide,omitempty"`

	// Routing lists under which names and for which providers Services and routes were made, the
	// present ones first. What was made under the others goes once the present ones are in force.
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	Routing []RoutingRef `json:"routing,omitempty"`

	// Scalers lists the autoscalers of the target that the primary has got copies of, the present
	// one first. The copies of the others go.
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	Scalers []ScalerRef `json:"scalers,omitempty"`

	// RetiringSince is since when the present Services and routes have been seen in force while
	// there are former ones. Those go when the propagation delay has passed since then.
	// +optional
	RetiringSince *metav1.MicroTime `json:"retiringSince,omitempty"`

	// Checks is what the metrics said last, in this run or in the last one.
	// +optional
	Checks *ChecksStatus `json:"checks,omitempty"`

	// Sequence is the number of the last notice.
	// +optional
	Sequence int64 `json:"sequence,omitempty"`

	// Outbox holds what has been decided to be told and may not have been told yet: events,
	// alerts and hooks. It is empty once a Canary has come to rest.
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	Outbox []Notice `json:"outbox,omitempty"`
}

// UnreadySince says since when something that a rollout waits for has been missing. It belongs to
// one stage of one revision and says nothing about any other.
type UnreadySince struct {
	// Run is the analysis that this belongs to.
	// +optional
	Run int64 `json:"run,omitempty"`

	// Stage is what was under way: analysis or promotion.
	// +optional
	Stage string `json:"stage,omitempty"`

	// Canary is since when the target has not been ready.
	// +optional
	Canary *metav1.MicroTime `json:"canary,omitempty"`

	// Primary is since when the primary has not been ready.
	// +optional
	Primary *metav1.MicroTime `json:"primary,omitempty"`

	// Routes is since when the routes have not been in force.
	// +optional
	Routes *metav1.MicroTime `json:"routes,omitempty"`

	// Change is since when a change that the rollout needs has been refused.
	// +optional
	Change *metav1.MicroTime `json:"change,omitempty"`

	// Blocked is since when the Canary can't run as written.
	// +optional
	Blocked *metav1.MicroTime `json:"blocked,omitempty"`
}

// RoutingRef names Services and routes of a Canary.
type RoutingRef struct {
	// Service is the name of the Service that clients use; the names of the others follow from it.
	// +kubebuilder:validation:MaxLength=253
	Service string `json:"service"`

	// Provider has the routes. Empty means that they are gone.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Provider string `json:"provider,omitempty"`

	// Route is the route of the user whose weights are shifted, empty where the provider makes the
	// routes.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Route string `json:"route,omitempty"`

	// Released says that a Service of the user's is left alone until the Canary is deleted. It
	// still leads to the primary.
	// +optional
	Released bool `json:"released,omitempty"`
}

// ScalerRef names an autoscaler of a target.
type ScalerRef struct {
	// Kind of the autoscaler: HorizontalPodAutoscaler or ScaledObject.
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`

	// Name of the autoscaler.
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// RevisionRef identifies one revision of the target.
type RevisionRef struct {
	// Fingerprint of the template, v2:<hex>.
	// +optional
	Fingerprint string `json:"fingerprint,omitempty"`

	// UID of the target object.
	// +optional
	UID types.UID `json:"uid,omitempty"`

	// Generation of the target object when it was seen with this revision.
	// +optional
	Generation int64 `json:"generation,omitempty"`

	// Counter is the deployment.kubernetes.io/revision annotation of the target.
	// +optional
	Counter string `json:"counter,omitempty"`

	// Configs are the checksums of the tracked ConfigMaps and Secrets: configmap/<name> or
	// secret/<name> to checksum.
	// +optional
	Configs map[string]string `json:"configs,omitempty"`

	// FlaggerHash is the hash by which Flagger knows the template. It stands in lastAppliedSpec or
	// lastPromotedSpec of the status, unless Flagger has written that since.
	// +optional
	FlaggerHash string `json:"flaggerHash,omitempty"`
}

// Notice is one thing to tell: an event, an alert, or a call of hooks that decide nothing.
type Notice struct {
	// Sequence numbers the notices of a Canary. It makes an event that is sent twice the same event.
	Sequence int64 `json:"sequence"`

	// Type of the event.
	// +kubebuilder:validation:Enum=Normal;Warning
	// +optional
	Type string `json:"type,omitempty"`

	// Message of the event. No event is sent when it is empty.
	// +optional
	Message string `json:"message,omitempty"`

	// Rule is the rule that decided.
	// +optional
	Rule string `json:"rule,omitempty"`

	// Error says that the event is logged as an error.
	// +optional
	Error bool `json:"error,omitempty"`

	// Alert to send.
	// +optional
	Alert *NoticeAlert `json:"alert,omitempty"`

	// Hooks names the type of webhooks to call.
	// +optional
	Hooks HookType `json:"hooks,omitempty"`

	// Phase the rollout was in, as told to webhooks.
	// +optional
	Phase CanaryPhase `json:"phase,omitempty"`

	// Revision that this is about: the checksum that webhooks are told.
	// +optional
	Revision string `json:"revision,omitempty"`

	// Verdict on the metric that this is about.
	// +optional
	Verdict *MetricVerdict `json:"verdict,omitempty"`
}

// NoticeAlert is an alert to send.
type NoticeAlert struct {
	// Severity of the alert.
	// +kubebuilder:validation:Enum=info;warn;error
	Severity AlertSeverity `json:"severity"`

	// Message of the alert.
	Message string `json:"message"`

	// Details adds the target, the threshold, the deadline and the routing.
	// +optional
	Details bool `json:"details,omitempty"`
}
