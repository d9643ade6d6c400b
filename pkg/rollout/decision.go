package rollout

import (
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Decision is what a pass comes to. Everything in it is data.
type Decision struct {
	// Rule names the rule that decided. It goes to the log, to the events and to a metric.
	Rule string
	// Needs are questions that have no answer yet. The rest of the decision holds in the meantime. Whoever asks them brings the
	// next pass with the answers.
	Needs []Need
	// Standing are the IDs of all questions, those of Needs and earlier ones, whose answers may count for the next status. The
	// others are void: their answers are forgotten, and what is in flight for them is canceled.
	Standing []string
	// Status is the whole next status. Write it only if it differs from the present one.
	Status v1beta1.CanaryStatus
	// Actions bring the world in line with Status, in this order, after Status was written.
	Actions []Action
	// Sight is for the facts of the next pass.
	Sight Sight
	// Outcomes are observations for the metrics.
	Outcomes []Outcome
	// Wake is when to look again if nothing happens before. Zero means never.
	Wake time.Time
}

// Action is an idempotent change to the world. The set is closed: see the types below.
//
//sumtype:decl
type Action interface{ action() }

// EnsureBackendServices makes the canary and the primary Service match the Canary.
type EnsureBackendServices struct{}

// EnsureApexService points the Service that clients use at the primary.
type EnsureApexService struct{}

// EnsurePrimary makes the primary workload a copy of the target at exactly this revision. It fails without a write when the
// target has moved on, unless the primary is gone and was at this revision: then it is rebuilt from the stored copy.
type EnsurePrimary struct {
	Revision Revision
	// Replace lets a primary go that selects its pods by other labels than the copy, which is then created in its place. Rules set it
	// only when no request depends on the primary.
	Replace bool
}

// OwnPrimary makes the Canary the owner of a primary, and of what its pods read, in place of one that is gone.
type OwnPrimary struct{}

// EnsureRoutes writes the provider's objects for the traffic that the new status wants.
type EnsureRoutes struct{}

// ScaleTargetUp gives a target with zero replicas its pods back, and its autoscaler the say over them.
type ScaleTargetUp struct{}

// ScaleTargetToZero takes the pods of the target away, and tells its autoscaler to leave it so. Rules emit it only when the
// target was seen to get no traffic.
type ScaleTargetToZero struct{}

// HoldTarget gives a target pods that its autoscaler took away for want of work, and tells that to leave them.
type HoldTarget struct{}

// RaisePrimary gives a primary without pods one. Its autoscaler, which is in place by then, has the say over more.
type RaisePrimary struct{}

// PauseTarget tells the autoscaler of a target without pods to leave it so.
type PauseTarget struct{}

// EnsurePrimaryScaler makes the primary's autoscaler match that of the target.
type EnsurePrimaryScaler struct{}

// AddFinalizer keeps the Canary from vanishing before it has given back what it took over.
type AddFinalizer struct{}

// RemoveFinalizer lets a Canary that is being deleted vanish.
type RemoveFinalizer struct{}

// RestoreTarget gives the target at least as many pods as the primary has, and its autoscalers, previous ones too, the say over
// them.
type RestoreTarget struct{}

// RevertRouting makes Services and routing objects that were taken over what they were before, and deletes the routing
// objects that the Canary made.
type RevertRouting struct{}

// RetireRoutes deletes the routing objects that were made under a previous name or for a previous provider, and makes those of users
// what they were before.
type RetireRoutes struct{}

// RetireServices deletes the Services that were made under a previous name. Those of users stay, and lead to the primary.
type RetireServices struct{}

// RetireScalers deletes the copies of previous autoscalers that the primary still has.
type RetireScalers struct{}

// ResumePreviousScalers takes back that previous autoscalers of the target leave it without pods.
type ResumePreviousScalers struct{}

// RetireCopies deletes the copies of ConfigMaps and Secrets that neither the primary nor a stored revision refers to.
type RetireCopies struct{}

// RestoreCopies gives the copies of ConfigMaps and Secrets that the primary reads the content that it was promoted with.
type RestoreCopies struct{}

func (RestoreCopies) action()         {}
func (RetireCopies) action()          {}
func (RetireRoutes) action()          {}
func (RetireServices) action()        {}
func (RetireScalers) action()         {}
func (ResumePreviousScalers) action() {}
func (AddFinalizer) action()          {}
func (RemoveFinalizer) action()       {}
func (RestoreTarget) action()         {}
func (RevertRouting) action()         {}
func (EnsurePrimaryScaler) action()   {}
func (EnsureBackendServices) action() {}
func (EnsureApexService) action()     {}
func (EnsurePrimary) action()         {}
func (OwnPrimary) action()            {}
func (EnsureRoutes) action()          {}
func (ScaleTargetUp) action()         {}
func (ScaleTargetToZero) action()     {}
func (PauseTarget) action()           {}
func (HoldTarget) action()            {}
func (RaisePrimary) action()          {}

// Outcome is a countable result of a pass.
type Outcome string

// The outcomes.
const (
	// OutcomeSucceeded and OutcomeSkipped count as successes, OutcomeFailed as a failure of a rollout.
	OutcomeSucceeded Outcome = "succeeded"
	OutcomeSkipped   Outcome = "skipped"
	OutcomeFailed    Outcome = "failed"
	// OutcomeAnalyzed marks a pass that went through an analysis step.
	OutcomeAnalyzed Outcome = "analyzed"
)
