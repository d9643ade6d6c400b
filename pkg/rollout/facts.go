package rollout

import (
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Facts is everything the rules may look at, gathered in one go. Objects in it are shared and must not be changed.
type Facts struct {
	// Now is the instant of the pass.
	Now time.Time
	// Canary is the object as read at the start of the pass, with its status, and with the target of RolledOut.
	Canary *v1beta1.Canary
	// Settings are the flags of the operator that rules depend on.
	Settings Settings
	// Provider says what the routing provider in force can do.
	Provider ProviderFact
	// Problem is the first thing that makes the Canary impossible to run as written, or the first read of the cluster
	// that failed. Nil when all is well.
	Problem *Problem
	// Target is the user's workload, Primary our copy of it.
	Target  Workload
	Primary Workload
	// Services tells about the three Services, Routes about the objects of the provider.
	Services ServicesFact
	Routes   RoutesFact
	// Port tells about the port of the pods that service.port leads to, if the template of the target does not declare it.
	Port PortFact
	// Reverted is whether the Services and routing objects that the Canary took over are what they were before, and its own
	// routing objects are gone. It is observed only while a Canary with revertOnDeletion is being deleted.
	Reverted bool
	// Scaler tells about the autoscalers of target and primary.
	Scaler ScalerFact
	// OthersFirst is whether this Canary may begin no rollout yet, because as many as are allowed are under way or because others
	// have waited longer. It is never set without a limit.
	OthersFirst bool
	// Schedule tells whether rollouts may begin now. It is observed only while a change waits to begin or a rollout is under way.
	Schedule ScheduleFact
	// Dependencies are the Canaries of spec.dependsOn. They are observed only while a change of this one waits to begin.
	Dependencies []DependencyFact
	// Queue is where the change stands among those that wait for their turn.
	Queue QueueFact
	// Previous tells what is left under each entry of status.rollout.routing that is not the present one.
	Previous map[v1beta1.RoutingRef]PreviousFact
	// UnusedCopies is whether there are copies of ConfigMaps or Secrets, made for earlier revisions, that the primary does not read.
	UnusedCopies bool
	// Copies tells about the copies of ConfigMaps and Secrets that the primary reads.
	Copies CopiesFact
	// Nonces are two fresh random values, each of ten letters, for session cookies. Only a Canary with session affinity
	// needs them.
	Nonces [2]string
	// Unanswered tells of a question that failed in a way that says nothing about the rollout, and that is asked again. Nil if
	// there is none.
	Unanswered *Problem
	// Checks holds what Resolve found of the answers that Decide asked for in its Needs.
	Checks Checks
	// Contended tells of an object of ours that somebody else keeps changing, nil if there is none. Its repair is put off, and
	// what it stands for is not to be relied on.
	Contended *Problem
	// Sight is that of the last decision of this process about the Canary, zero if there is none.
	Sight Sight
	// Delivered is the highest sequence number of the outbox that this process has published.
	Delivered int64
	// ApplyError is what the last pass failed to carry out, empty after a success.
	ApplyError string
}

// Settings are the operator's own parameters.
type Settings struct {
	// MinInterval is the least time between two analysis steps.
	MinInterval time.Duration
	// PropagationDelay is how long a route write needs at the most to reach every proxy of a provider that reports
	// nothing, and new pods to become known to the proxies of any.
	PropagationDelay time.Duration
	// RevertOnDeletion is spec.revertOnDeletion of Canaries that do not set it. The Canary of the facts has it in its spec.
	RevertOnDeletion bool
	// Readiness is whether Canaries have the conditions that tools of GitOps wait for.
	Readiness bool
	// ClusterName is shown in alerts.
	ClusterName string
	// MaxRollouts is how many rollouts may be under way at the same time, MaxRolloutsPerNamespace how many of one namespace. 0 is
	// any number.
	MaxRollouts, MaxRolloutsPerNamespace int
}

// ProviderFact describes the routing provider in force.
type ProviderFact struct {
	Name string
	// Weights is whether traffic can be split by percent. Without it a weighted canary is run as blue/green.
	Weights bool
	// Routes is whether the provider moves traffic at all. It does not for "kubernetes".
	Routes bool
	// Mirror, MirrorWeight, Match and SessionAffinity are whether the fields of that name in analysis can be served,
	// PrimaryCookie is about sessionAffinity.primaryCookieName.
	Mirror, MirrorWeight, Match, SessionAffinity, PrimaryCookie bool
	// ReportsSettled is whether RoutesFact.Settled is what somebody reports. If not, whoever relies on a route
	// waits for the propagation delay.
	ReportsSettled bool
	// ReportsDataPlane is whether that is seen on the proxies themselves. If not, a report says that the controller of the
	// provider has read the routes, and the proxies follow later.
	ReportsDataPlane bool
	// Warnings tell, each in a sentence with a remedy, what is likely to keep a rollout from doing what its user expects.
	Warnings []string
}

// ProblemReason is a machine-readable reason of the Healthy condition.
type ProblemReason string

// Reasons that observation and the rules give.
const (
	ReasonHealthy           ProblemReason = "Healthy"
	ReasonInvalidSpec       ProblemReason = "InvalidSpec"
	ReasonTargetNotFound    ProblemReason = "TargetNotFound"
	ReasonReadFailed        ProblemReason = "ReadFailed"
	ReasonApplyFailed       ProblemReason = "ApplyFailed"
	ReasonMetrics           ProblemReason = "MetricsUnavailable"
	ReasonPrimaryNotReady   ProblemReason = "PrimaryNotReady"
	ReasonCanaryNotReady    ProblemReason = "CanaryNotReady"
	ReasonRoutesNotSettled  ProblemReason = "RoutesNotSettled"
	ReasonRoutesNotReported ProblemReason = "RoutesNotReported"
	ReasonCheckFailed       ProblemReason = "CheckFailed"
	ReasonNoCanaryTraffic   ProblemReason = "NoCanaryTraffic"
	ReasonWaitingForGate    ProblemReason = "WaitingForApproval"
	ReasonWaitingForMetrics ProblemReason = "WaitingForMetrics"
	ReasonUnexpectedSplit   ProblemReason = "UnexpectedSplit"
	ReasonWaitingForTurn    ProblemReason = "WaitingForTurn"
	ReasonSuspended         ProblemReason = "Suspended"
	ReasonNoReadyCapacity   ProblemReason = "NoReadyCapacity"
	ReasonDuplicateTarget   ProblemReason = "DuplicateTarget"
	ReasonPromotionFailed   ProblemReason = "PromotionFailed"
	ReasonInternalError     ProblemReason = "InternalError"
	ReasonUnsupportedFields ProblemReason = "UnsupportedFields"
	ReasonContended         ProblemReason = "Contended"
	ReasonConfigNotFound    ProblemReason = "ConfigNotFound"
	ReasonScalerNotFound    ProblemReason = "ScalerNotFound"
	ReasonPrimaryChanged    ProblemReason = "PrimaryChanged"
	ReasonTargetPaused      ProblemReason = "TargetPaused"
	ReasonPortNotDeclared   ProblemReason = "PortNotDeclared"
)

// Problem is one obstacle, in the words that the user sees in the Healthy condition and in an event.
type Problem struct {
	Reason ProblemReason
	// Message names the field or object and says what to do.
	Message string
	// Unknown is set for a failed read: the state of the cluster is not known, which is neither good nor bad.
	Unknown bool
}

// HealthState is three-valued: a workload that is not ready may get there (Waiting) or won't by itself (Stuck).
type HealthState string

// The states of a workload.
const (
	Ready   HealthState = "ready"
	Waiting HealthState = "waiting"
	Stuck   HealthState = "stuck"
)

// Health is how far the pods of a workload are with its newest template.
type Health struct {
	State HealthState
	// Reason is the message of contract section 3.8, empty when ready.
	Reason string
	// Since is when a stuck workload was reported stuck, zero if unknown. A report from before the step at hand says
	// nothing about it.
	Since time.Time
}

// Workload is what is known of a target or a primary.
type Workload struct {
	Exists bool
	// Name is the object's name, Kind its kind.
	Name, Kind string
	// Revision is what the object's template asks for now.
	Revision Revision
	// Replicas is the wanted number of pods, Available how many serve.
	Replicas, Available int32
	// Paused is whether its controller was told to leave the pods at the template that they have.
	Paused bool
	// Stopping is whether pods are reported of a workload that is to have none. Whoever scales it up before that is over hears those pods
	// counted as the new ones.
	Stopping bool
	// Unscalable workloads have no pods of their own that could be taken away or given back: there is nothing to scale.
	Unscalable bool
	// Health is about the pods of Revision and never Ready with zero replicas.
	Health Health
	// Copy is, on a primary, the fingerprint of the target revision that it was made from: recorded on the object, or
	// found by comparing it with what would be made from the target now. Empty when it is neither.
	Copy string
	// CopyRecorded is whether Copy is recorded on the object: it was made as a copy of a revision that was to be promoted, and not
	// changed since.
	CopyRecorded bool
	// CopyConfigs are, on a primary, the configs of that revision.
	CopyConfigs map[string]string
	// Edited is, on a primary, whether it was changed since it was made: a record on it is about another template.
	Edited bool
	// StopsFirst is, on a primary, whether a copy of the target may take its last ready pod away before a new one is ready.
	StopsFirst bool
	// SelectorDiffers says, on a primary, by which labels it selects its pods if a copy of the target has to select them by others. No
	// selector can be changed: such a copy takes the place of the primary. Empty if they are the same.
	SelectorDiffers string
	// Orphaned is, on a primary, whether it names as its owner a Canary of this name that is gone, as after a restore from a
	// backup. The garbage collector deletes such an object.
	Orphaned bool
}

// Revision identifies a version of the target by what the server stores.
type Revision struct {
	// Fingerprint is the hash of the template, with the version of the hash as its prefix. Empty when unknown.
	Fingerprint string
	// UID and Generation are those of the workload object.
	UID        string
	Generation int64
	// Counter is the revision number that the Deployment controller has given to this very template, empty where there is none, or
	// none yet.
	Counter string
	// Configs maps "configmap/<name>" and "secret/<name>" to checksums of the tracked objects. Nil means that configs are not
	// tracked, which is no change of any.
	Configs map[string]string
	// FlaggerHash and FlaggerConfigs are what Flagger would record in place of Fingerprint and Configs. They identify nothing
	// here. The hash is empty when unknown.
	FlaggerHash    string
	FlaggerConfigs map[string]string
}

// ServicesFact tells whether the Services are as wanted.
type ServicesFact struct {
	// BackendsInPlace is about the canary and the primary Service, ApexInPlace about the one that clients use.
	BackendsInPlace, ApexInPlace bool
	// PrimaryUnfound and CanaryUnfound are whether the Service of a side is missing or selects other pods than that side has. Only a
	// fault of the spec keeps it from being mended.
	PrimaryUnfound, CanaryUnfound bool
}

// PortState is what the endpoints of a Service show of a port.
type PortState string

// The states of a port. It is unknown as long as no pod is ready behind a Service that asks for it.
const (
	PortUnknown PortState = ""
	PortServed  PortState = "served"
	PortMissing PortState = "missing"
)

// PortFact tells about a port that no template declares. It is the zero value for one that is declared.
type PortFact struct {
	// Undeclared says so in a sentence.
	Undeclared string
	// Name is what the Services call the port by, empty where that is a number: requests to a number go to every ready pod.
	Name string
	// Declared lists, in words, what the target has instead of the name.
	Declared string
	// State and Canary are about a name: what the endpoints of the primary and of the canary Service show of it.
	State, Canary PortState
}

// ScalerFact tells whether the autoscalers are as wanted. It is all false for a Canary without one.
type ScalerFact struct {
	// Wanted is whether the primary is to have an autoscaler, InPlace whether it has it as wanted.
	Wanted, InPlace bool
	// AdmitsZero is whether it leaves a workload that nobody asks anything of without pods. Held is whether that of the target was
	// told to keep some.
	AdmitsZero, Held bool
	// Pausable is whether the target's autoscaler gives a target without pods new ones unless it is told not to, and
	// Paused whether it was told.
	Pausable, Paused bool
	// PreviousExist is whether the primary still has a copy of an autoscaler that status.rollout.scalers lists and the Canary no
	// longer refers to, PreviousPaused whether such an autoscaler was told by us to leave the target without pods. PreviousKnown is
	// false when that could not be found out.
	PreviousExist, PreviousPaused, PreviousKnown bool
}

// QueueFact is a place among the changes that wait for their turn, from 1 on: among all, and among those of the namespace. It is 0
// where there is no such limit.
type QueueFact struct{ Position, InNamespace int32 }

// PreviousFact tells what is left of the Services and routes that were made under a previous name or for a previous provider.
type PreviousFact struct {
	// Unknown says why it can't be told. It is empty when it can.
	Unknown string
	// Routes is whether there are routing objects to delete or to give back, Services whether there are Services to delete or
	// to leave to their users.
	Routes, Services bool
	// TakenOver is whether a Service of a user still leads to the primary.
	TakenOver bool
}

// RoutesFact tells what the objects of the provider express.
type RoutesFact struct {
	// Known is false when the objects could not be read or do not exist yet; CanaryWeight is then meaningless.
	Known bool
	// InPlace is whether every object equals what the status wants.
	InPlace bool
	// Settled is whether the data plane is known to follow; Reason says why not. Silent is whether that is only because nobody
	// reports on the routes as they are: such a report may never come.
	Settled, Silent bool
	Reason          string
	// Outlasting is whether some are there, or would be, that no garbage collector deletes with the Canary. Of a Canary that is
	// being deleted it tells whether any is left.
	Outlasting bool
	// CanaryWeight, Mirror and Matched are what is routed now.
	CanaryWeight    int32
	Mirror, Matched bool
}

// CopiesFact tells whether the copies of ConfigMaps and Secrets that the primary reads have the content that it was promoted
// with. It is the zero value when they have, or when nobody knows.
type CopiesFact struct {
	// Restorable is whether there are others, and their previous content is to be had.
	Restorable bool
	// Lost names one whose previous content is not, empty if there is none. Source is what it was copied from.
	Lost, Source string
}

// HookResult is the answer of one webhook.
type HookResult struct {
	Name      string
	Passed    bool
	Text      string
	MuteAlert bool
}

// ProvidersCheck is the answer of the metric providers at bootstrap. Error is empty when all are available.
type ProvidersCheck struct{ Error string }
