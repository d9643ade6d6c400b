package controller

import (
	"context"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/services"
	"flagger.app/flagger/pkg/workload"
)

// follow tells the contentions which of the wanted objects are as they should be, and which somebody has changed.
func (o *observer) follow(s *site, wanted []router.Object, changes []router.Change) {
	changed := map[router.Ref]*router.Change{}
	for i := range changes {
		changed[changes[i].Ref] = &changes[i]
	}
	all, now := o.v.memory.contentions, o.v.started
	for i := range wanted {
		ref := wanted[i].Ref
		switch change, ok := changed[ref]; {
		case !ok:
			all.asWanted(ref, now)
		case change.Undone > 0:
			all.undone(s, ref, change.Undone, change.Fields(), now)
		}
	}
}

// applyObjects makes objects as wanted, but for those whose repair has to wait. A state that was not written before never
// does: it is a decision of the rules, not a repair.
func (c *Controller) applyObjects(ctx context.Context, v *view, s *site, stored *v1beta1.Canary, wanted []router.Object) error {
	changes, err := s.Diff(stored, wanted)
	if err != nil {
		return err
	}
	now := c.Clock.Now()
	for i := range changes {
		change := &changes[i]
		if change.Undone > 0 && v.memory.contentions.holds(change.Ref, v.urgent(change, &stored.Status), now) {
			continue
		}
		v.memory.contentions.repair(change.Ref, now)
		object := &wanted[slices.IndexFunc(wanted, func(o router.Object) bool { return o.Ref == change.Ref })]
		if err := s.Write(ctx, stored, object, change); err != nil {
			return err
		}
	}
	return nil
}

// urgent is whether a repair leads requests away from where nobody serves them, or from a canary that is to get less.
func (v *view) urgent(change *router.Change, next *v1beta1.CanaryStatus) bool {
	if change.Op == router.Create {
		return true
	}
	metadataOnly := true
	for _, path := range change.Fields() {
		metadataOnly = metadataOnly && path[0] == "metadata"
	}
	switch {
	case metadataOnly:
		return false
	case change.Ref.Resource == services.Ref("", "").Resource:
		return true
	case v.isScaler(change.Ref):
		return false
	}
	live, want := v.facts.Routes, rollout.Traffic(v.canary.GetAnalysis(), next)
	return !live.Known || live.CanaryWeight > want.CanaryWeight || live.CanaryWeight > 0 && want.Matched && !live.Matched ||
		live.CanaryWeight > 0 && v.facts.Target.Available == 0 || live.CanaryWeight < 100 && v.facts.Primary.Available == 0
}

func (v *view) isScaler(ref router.Ref) bool {
	for i := range v.scaler {
		if v.scaler[i].Ref == ref {
			return true
		}
	}
	return false
}

// done is an action on a workload that was carried out.
type done struct {
	// step names the action and the step of the rollout that asked for it. The rules read our own writes, so if they ask for the
	// same again, somebody has undone it.
	step   string
	number int
}

// workloadAction is an action on a workload: the object that it writes, and the fields.
type workloadAction struct {
	what   string
	ref    router.Ref
	fields [][]string
	urgent bool
}

// applyToWorkload carries out an action on a workload, unless somebody undoes it again and again.
func (c *Controller) applyToWorkload(ctx context.Context, v *view, stored *v1beta1.Canary, action rollout.Action) error {
	a, m, now := v.workloadAction(action), v.memory, c.Clock.Now()
	step := fmt.Sprintf("%s in %s", a.what, stored.Status.Phase)
	if r := stored.Status.Rollout; r != nil {
		step += fmt.Sprintf("/%s of run %d", r.Stage, r.Run)
	}
	last := m.done[a.ref]
	if last.step == step {
		m.contentions.undone(c.main, a.ref, last.number, a.fields, now)
		if m.contentions.holds(a.ref, a.urgent, now) {
			return nil
		}
	}
	m.contentions.repair(a.ref, now)
	var err error
	switch action := action.(type) {
	case rollout.EnsurePrimary:
		err = v.ensurePrimary(ctx, stored, action)
	case rollout.OwnPrimary:
		if keeper, ok := v.target.(workload.Keeper); ok {
			err = keeper.OwnPrimary(ctx, stored)
		}
	case rollout.ScaleTargetUp:
		err = v.target.ScaleUp(ctx, stored)
	case rollout.ScaleTargetToZero:
		err = v.target.ScaleToZero(ctx, stored)
	case rollout.PauseTarget:
		err = workload.PauseScaler(ctx, c.main.Client(), stored)
	case rollout.HoldTarget:
		if idler, ok := v.target.(workload.Idler); ok {
			err = idler.HoldTarget(ctx, stored)
		}
	case rollout.RaisePrimary:
		if idler, ok := v.target.(workload.Idler); ok {
			err = idler.RaisePrimary(ctx, stored)
		}
	case rollout.RestoreCopies:
		err = v.restoreCopies(ctx, stored)
	default:
		err = fmt.Errorf("%T is no action on a workload", action)
	}
	if err == nil {
		m.done[a.ref] = done{step: step, number: last.number + 1}
	}
	return err
}

// ensurePrimary carries out rollout.EnsurePrimary.
func (v *view) ensurePrimary(ctx context.Context, stored *v1beta1.Canary, action rollout.EnsurePrimary) error {
	if replacer, ok := v.target.(workload.Replacer); ok && action.Replace {
		return replacer.ReplacePrimary(ctx, stored, action.Revision)
	}
	return v.target.EnsurePrimary(ctx, stored, action.Revision)
}

// calmActions tells the contentions about workloads whose actions a pass had no need of.
func (v *view) calmActions(actions []rollout.Action) {
	needed := map[router.Ref]bool{}
	for _, action := range actions {
		needed[v.workloadAction(action).ref] = true
	}
	for ref := range v.memory.done {
		if !needed[ref] {
			v.memory.contentions.asWanted(ref, v.started)
		}
	}
}

// workloadAction describes what an action on a workload writes.
func (v *view) workloadAction(action rollout.Action) workloadAction {
	switch action := action.(type) {
	case rollout.EnsurePrimary:
		primary := workloadAction{
			what: "copy " + action.Revision.Fingerprint, ref: v.workloadRef(workload.PrimaryName(v.canary)),
			urgent: v.facts.Primary.Available == 0,
		}
		if v.facts.Primary.Exists {
			primary.fields = [][]string{{"spec", "template"}}
		}
		return primary
	case rollout.RestoreCopies:
		return v.restoring()
	case rollout.OwnPrimary:
		return workloadAction{
			what: "own", ref: v.workloadRef(workload.PrimaryName(v.canary)), fields: [][]string{{"metadata", "ownerReferences"}}, urgent: true,
		}
	case rollout.RaisePrimary:
		return workloadAction{
			what: "raise", ref: v.workloadRef(workload.PrimaryName(v.canary)), fields: [][]string{{"spec", "replicas"}}, urgent: true,
		}
	case rollout.ScaleTargetUp, rollout.HoldTarget:
		return v.scaling("up", true)
	case rollout.ScaleTargetToZero, rollout.PauseTarget:
		return v.scaling("down", false)
	default:
		return workloadAction{}
	}
}

// restoring concerns the first of the copies that somebody changed.
func (v *view) restoring() workloadAction {
	for _, copied := range v.copies {
		switch {
		case !copied.Restorable:
		case copied.Gone:
			return workloadAction{what: "restore copies", ref: copied.Ref}
		default:
			return workloadAction{what: "restore copies", ref: copied.Ref, fields: [][]string{{"data"}}}
		}
	}
	return workloadAction{}
}

// restoreCopies carries out rollout.RestoreCopies.
func (v *view) restoreCopies(ctx context.Context, stored *v1beta1.Canary) error {
	copier, ok := v.target.(workload.Copier)
	if !ok {
		return nil
	}
	if err := copier.RestoreCopies(ctx, stored); err != nil {
		return named(stored, err)
	}
	return nil
}

// scaling concerns the autoscaler as long as that has to be told first.
func (v *view) scaling(what string, up bool) workloadAction {
	if scaler, field, ok := workload.PauseField(v.canary); ok && v.facts.Scaler.Pausable && v.facts.Scaler.Paused == up {
		return workloadAction{what: what, ref: scaler, fields: [][]string{field}}
	}
	return workloadAction{
		what: what, ref: v.workloadRef(v.canary.Spec.TargetRef.Name), fields: [][]string{workload.ScaleField(v.canary)},
	}
}

// workloadRef names a workload of the kind of the target.
func (v *view) workloadRef(name string) router.Ref {
	ref := v.kind
	ref.Namespace, ref.Name = v.canary.Namespace, name
	return ref
}

// meetOpponents finds out who is on the other side of the contentions that have just become open. It costs a read for each.
func (c *Controller) meetOpponents(ctx context.Context, v *view) {
	for _, ref := range v.memory.contentions.sorted() {
		found := v.memory.contentions[ref]
		if !found.open || found.message != "" {
			continue
		}
		manager := ""
		if len(found.fields) > 0 {
			u, err := found.site.of(ref.Resource).Managed(ctx, ref)
			if err != nil {
				c.logger(v.key).Debug("who changes an object of ours is not known", zap.Stringer("object", ref), zap.Error(err))
			} else {
				manager = writerOf(u, found.fields)
			}
		}
		found.tell(ref, manager)
	}
	v.facts.Contended = v.memory.contentions.problem()
}
