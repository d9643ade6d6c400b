package rollout

import (
	"fmt"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// RolledOut returns the Canary with the target that it was rolled out for. If its targetRef names another one by now, that is a
// problem: the primary, the Services and the stored revisions are all about the previous target. Whoever observes for the rules
// looks at the previous one, so that it is what serves, and what is handed back at a deletion.
func RolledOut(c *v1beta1.Canary) (*v1beta1.Canary, *Problem) {
	if c.Status.Rollout == nil || c.Status.Rollout.TargetRef == nil {
		return c, nil
	}
	was, is := *c.Status.Rollout.TargetRef, c.Spec.TargetRef
	// The rest is shared: nobody changes what was observed, and this is looked at in every pass.
	previous := *c
	previous.Spec.TargetRef, previous.Spec.PrimaryRef = was, c.Status.Rollout.PrimaryRef
	// Services of Kubernetes and of Knative have one kind. Versions of an API have the same objects.
	if was.Kind == is.Kind && was.Name == is.Name && previous.IsKnative() == c.IsKnative() {
		return withPrimary(c, &previous)
	}
	if was.Kind == is.Kind && was.Name == is.Name {
		was.Kind, is.Kind = was.APIVersion+" "+was.Kind, is.APIVersion+" "+is.Kind
	}
	return &previous, &Problem{Reason: ReasonInvalidSpec, Message: fmt.Sprintf("spec.targetRef: %s.%s was rolled out for %s %s and can't be "+
		"moved to %s %s: set it back, or delete the Canary and create one for the other target. Until then the primary of %[3]s "+
		"%[4]s goes on serving", c.Name, c.Namespace, was.Kind, was.Name, is.Kind, is.Name)}
}

// withPrimary is the same for the primary: what was promoted is in the previous one.
func withPrimary(c, previous *v1beta1.Canary) (*v1beta1.Canary, *Problem) {
	was, is := previous.GetPrimaryName(), c.GetPrimaryName()
	if previous.HasOwnPrimary() == c.HasOwnPrimary() && was == is {
		return c, nil
	}
	remedy := "set it to " + was
	if !previous.HasOwnPrimary() {
		remedy = "remove it"
	}
	return previous, &Problem{Reason: ReasonInvalidSpec, Message: fmt.Sprintf("spec.primaryRef: %s %s serves as the primary of %s.%s, and "+
		"another one can't take its place: %s, or delete the Canary and create one for the other primary. Until then %[2]s goes on serving",
		previous.Spec.TargetRef.Kind, was, c.Name, c.Namespace, remedy)}
}

// recordTarget notes whose copy the primary is, before anything leads to it. Until then another target may be named. A record
// of before says nothing about the target; the name of the primary does.
func (p *pass) recordTarget() {
	copying := p.next.Phase == v1beta1.CanaryPhaseInitializing && p.st.Stage != stageRouting
	if p.st.TargetRef != nil || p.next.Phase == "" || copying || !p.f.Primary.Exists {
		return
	}
	ref := p.c.Spec.TargetRef
	p.st.TargetRef, p.st.PrimaryRef = &ref, p.c.Spec.PrimaryRef.DeepCopy()
}
