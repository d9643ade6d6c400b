package rollout

import (
	"testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

func TestTargetIsRecorded(t *testing.T) {
	unrecorded := status(func(s *v1beta1.CanaryStatus) { s.Rollout.TargetRef = nil })
	copying := func(f *Facts) { unready(&f.Primary, Waiting, 0) }
	for name, c := range map[string]struct {
		facts Facts
		want  bool
	}{
		"a record of before":                {facts(succeeded, unrecorded), true},
		"in the one write of a takeover":    {facts(succeeded, status(func(s *v1beta1.CanaryStatus) { s.Rollout = nil })), true},
		"with the first route":              {facts(v1beta1.CanaryPhaseInitializing, stage(stageCopying), unrecorded), true},
		"not while the primary is made":     {facts(v1beta1.CanaryPhaseInitializing, stage(stageCopying), unrecorded, copying), false},
		"not without a primary of the name": {facts(succeeded, unrecorded, func(f *Facts) { f.Primary = Workload{Name: "podinfo-primary"} }), false},
		"not while nothing is looked after": {facts(succeeded, unrecorded, spec(func(s *v1beta1.CanarySpec) { s.Suspend = true })), false},
	} {
		t.Run(name, func(t *testing.T) {
			c.facts.Canary.Spec.PrimaryRef = &v1beta1.LocalObjectReference{Kind: "Deployment", Name: "stable"}
			status := Decide(c.facts).Status.Rollout
			got := status.TargetRef
			if (status.PrimaryRef != nil) != c.want {
				t.Errorf("recorded the primary %+v, want any: %t", status.PrimaryRef, c.want)
			}
			if (got != nil) != c.want || got != nil && *got != c.facts.Canary.Spec.TargetRef {
				t.Errorf("recorded %+v, want any: %t", got, c.want)
			}
		})
	}
}

func TestRolledOut(t *testing.T) {
	for name, c := range map[string]struct {
		edit  edit
		moved bool
	}{
		"no record":           {status(func(s *v1beta1.CanaryStatus) { s.Rollout = nil }), false},
		"a record of before":  {status(func(s *v1beta1.CanaryStatus) { s.Rollout.TargetRef = nil }), false},
		"the same":            {func(*Facts) {}, false},
		"another API version": {spec(func(s *v1beta1.CanarySpec) { s.TargetRef.APIVersion = "apps/v2" }), false},
		"another API": {func(f *Facts) {
			f.Canary.Spec.TargetRef = v1beta1.LocalObjectReference{APIVersion: "v1", Kind: "Service", Name: "podinfo"}
			f.Canary.Status.Rollout.TargetRef = &v1beta1.LocalObjectReference{APIVersion: v1beta1.KnativeAPIVersion, Kind: "Service", Name: "podinfo"}
		}, true},
		"another name":                 {spec(func(s *v1beta1.CanarySpec) { s.TargetRef.Name = "other" }), true},
		"another kind":                 {spec(func(s *v1beta1.CanarySpec) { s.TargetRef.Kind = "DaemonSet" }), true},
		"another primary":              {ownPrimary("stable", "other"), true},
		"a primary named":              {ownPrimary("", "other"), true},
		"a primary not named any more": {ownPrimary("stable", ""), true},
		"the same primary":             {ownPrimary("stable", "stable"), false},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts(succeeded, c.edit)
			canary, problem := RolledOut(f.Canary)
			if (problem != nil) != c.moved {
				t.Errorf("problem %+v", problem)
			}
			if c.moved && canary.GetPrimaryName() != before(f.Canary) {
				t.Errorf("primary %s, want %s", canary.GetPrimaryName(), before(f.Canary))
			}
			if c.moved && canary.Spec.TargetRef != *f.Canary.Status.Rollout.TargetRef || canary.Spec.TargetRef.Name != "podinfo" {
				t.Errorf("target %+v", canary.Spec.TargetRef)
			}
		})
	}
}

// ownPrimary is a Canary that was rolled out with one primary of the user's, and names another by now. An empty name is none.
func ownPrimary(was, is string) edit {
	ref := func(name string) *v1beta1.LocalObjectReference {
		if name == "" {
			return nil
		}
		return &v1beta1.LocalObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: name}
	}
	return func(f *Facts) { f.Canary.Status.Rollout.PrimaryRef, f.Canary.Spec.PrimaryRef = ref(was), ref(is) }
}

// before is the primary that a Canary was rolled out with.
func before(c *v1beta1.Canary) string {
	was := c.DeepCopy()
	was.Spec.TargetRef, was.Spec.PrimaryRef = *c.Status.Rollout.TargetRef, c.Status.Rollout.PrimaryRef
	return was.GetPrimaryName()
}
