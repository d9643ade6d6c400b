package controller

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"testing"
	"testing/synctest"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/fingerprint"
)

// reference is what Flagger makes of a target and its configs, as contract section 3.3 has it.
type reference struct {
	hash    string
	configs map[string]string
}

// reference computes what Flagger would of a Deployment whose pods read the settings.
func (a *api) reference(name string) reference {
	a.t.Helper()
	hash, err := fingerprint.FlaggerDeployment(a.get(deploymentResource, name).Object)
	if err != nil {
		a.t.Fatal(err)
	}
	checksum := fingerprint.FlaggerData(map[string]string{"message": a.message("settings")})
	return reference{hash, map[string]string{"configmap/settings": checksum}}
}

// seesChange is whether Flagger would begin a rollout of what it finds at rest.
func (r reference) seesChange(s *v1beta1.CanaryStatus) bool {
	switch {
	case s.LastAppliedSpec == "":
		return true
	case r.hash == s.LastPromotedSpec:
	case r.hash != s.LastAppliedSpec:
		return true
	}
	return s.TrackedConfigs == nil && len(r.configs) > 0 || s.TrackedConfigs != nil && !maps.Equal(*s.TrackedConfigs, r.configs)
}

// recordOf is what of a status belongs to Flagger, as stored.
func (a *api) recordOf(name string) map[string]any {
	status := a.get(canaryResource, name).Object["status"].(map[string]any)
	return map[string]any{
		"lastAppliedSpec": status["lastAppliedSpec"], "lastPromotedSpec": status["lastPromotedSpec"], "trackedConfigs": status["trackedConfigs"],
	}
}

// leave makes the status of a Canary what Flagger would have left.
func (a *api) leave(name string, s v1beta1.CanaryStatus) {
	a.t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		a.t.Fatal(err)
	}
	var status map[string]any
	if err := json.Unmarshal(text, &status); err != nil {
		a.t.Fatal(err)
	}
	u := a.get(canaryResource, name)
	u.Object["status"] = status
	a.put(u)
}

// settledByFlagger is a fleet that Flagger has left at rest, in turn Initialized, Succeeded and Failed.
func settledByFlagger(t *testing.T, n int) (*api, []string) {
	t.Helper()
	names, objects := fleet(n)
	a := newAPI(t, objects...)
	l := newLoop(t, a, 4).trackConfigs().start()
	for _, name := range names {
		l.untilPhase(name, v1beta1.CanaryPhaseInitialized)
		l.atRest(name)
	}
	l.end()
	phases := []v1beta1.CanaryPhase{v1beta1.CanaryPhaseInitialized, v1beta1.CanaryPhaseSucceeded, v1beta1.CanaryPhaseFailed}
	for i, name := range names {
		primary := a.get(deploymentResource, primaryOf(name))
		primary.SetAnnotations(nil)
		a.put(primary)
		was := a.reference(name)
		phase := phases[i%len(phases)]
		if phase == v1beta1.CanaryPhaseFailed {
			a.paint(name, "red")
		}
		is := a.reference(name)
		a.leave(name, v1beta1.CanaryStatus{Phase: phase, LastAppliedSpec: is.hash, LastPromotedSpec: was.hash, TrackedConfigs: &is.configs})
	}
	return a, names
}

// Flagger finds everything as it left it: whoever goes back to it after a takeover begins no rollout.
func TestTakeoverLeavesFlaggersRecord(t *testing.T) {
	synctest.Test(t, testTakeoverLeavesFlaggersRecord)
}

func testTakeoverLeavesFlaggersRecord(t *testing.T) {
	a, names := settledByFlagger(t, 60)
	before := map[string]map[string]any{}
	for _, name := range names {
		before[name] = a.recordOf(name)
	}
	l := newLoop(t, a, 4).trackConfigs().start()
	for _, name := range names {
		l.until(name+" to be taken over", func() bool { return a.canary(name).Status.Rollout != nil })
	}
	l.untilIdle()
	changed := 0
	for _, name := range names {
		c := a.canary(name)
		if !reflect.DeepEqual(a.recordOf(name), before[name]) {
			t.Errorf("%s was %v, is %v", name, before[name], a.recordOf(name))
		}
		if a.reference(name).seesChange(&c.Status) {
			changed++
		}
		if c.Status.Rollout.Run != 0 {
			t.Errorf("%s was rolled out", name)
		}
	}
	if changed > 0 {
		t.Errorf("%d of %d would be rolled out by Flagger", changed, len(names))
	}
}

// What this operator rolls out is recorded as Flagger would have.
func TestRolloutLeavesWhatFlaggerWouldRecord(t *testing.T) {
	for _, change := range []string{"template", "config"} {
		t.Run(change, inBubble(func(t *testing.T) {
			a, names := settledByFlagger(t, 3)
			l := newLoop(t, a, 2).trackConfigs().start()
			for _, name := range names {
				l.until(name+" to be taken over", func() bool { return a.canary(name).Status.Rollout != nil })
			}
			if change == "config" {
				a.edit(configMapResource, "settings", "two", "data", "message")
			} else {
				for _, name := range names {
					a.paint(name, "green")
				}
			}
			for _, name := range names {
				l.until(name+" to be promoted", func() bool {
					return l.phase(name) == v1beta1.CanaryPhaseSucceeded && a.canary(name).Status.Rollout.Run == 1
				})
				c, want := a.canary(name), a.reference(name)
				if c.Status.LastAppliedSpec != want.hash || c.Status.LastPromotedSpec != want.hash {
					t.Errorf("%s: applied %s, promoted %s, want %s", name, c.Status.LastAppliedSpec, c.Status.LastPromotedSpec, want.hash)
				}
				if c.Status.TrackedConfigs == nil || !maps.Equal(*c.Status.TrackedConfigs, want.configs) {
					t.Errorf("%s: configs %v, want %v", name, c.Status.TrackedConfigs, want.configs)
				}
			}
		}))
	}
}

// A Canary that an earlier version of this operator has looked after gets what Flagger would have recorded, in one write.
func TestUpgradeRecordsForFlagger(t *testing.T) { synctest.Test(t, testUpgradeRecordsForFlagger) }

func testUpgradeRecordsForFlagger(t *testing.T) {
	a, names := settledByFlagger(t, 3)
	l := newLoop(t, a, 2).trackConfigs().start()
	for _, name := range names {
		l.until(name+" to be taken over", func() bool { return a.canary(name).Status.Rollout != nil })
	}
	l.end()
	for _, name := range names {
		s := a.canary(name).Status
		s.LastAppliedSpec, s.LastPromotedSpec = s.Rollout.Target.Fingerprint, s.Rollout.Promoted.Fingerprint
		s.TrackedConfigs = &s.Rollout.Target.Configs
		s.Rollout.Target.FlaggerHash, s.Rollout.Promoted.FlaggerHash = "", ""
		a.leave(name, s)
	}
	a.reset()
	l = newLoop(t, a, 2).trackConfigs().start()
	for _, name := range names {
		l.until(name+" to be recorded", func() bool {
			s := a.canary(name).Status
			return !a.reference(name).seesChange(&s)
		})
	}
	l.untilIdle()
	if n := a.times("update canaries/status"); n != len(names) {
		t.Errorf("%d writes of a status: %v", n, a.recorded())
	}
}

// Flagger knows nothing of the operator's own record, and writes a status without it.
func TestFlaggerInBetween(t *testing.T) {
	for _, kept := range []bool{false, true} {
		t.Run(fmt.Sprintf("record kept %t", kept), inBubble(func(t *testing.T) {
			a, names := settledByFlagger(t, 1)
			name := names[0]
			l := newLoop(t, a, 1).trackConfigs().start()
			a.paint(name, "green")
			l.untilPhase(name, v1beta1.CanaryPhaseSucceeded)
			l.atRest(name)
			l.end()

			// Flagger promotes another revision, and ours comes back.
			a.paint(name, "blue")
			primary := a.get(deploymentResource, primaryOf(name))
			labels := []string{"spec", "template", "metadata", "labels", "color"}
			if err := unstructured.SetNestedField(primary.Object, "blue", labels...); err != nil {
				t.Fatal(err)
			}
			a.put(primary)
			now := a.reference(name)
			left := v1beta1.CanaryStatus{Phase: v1beta1.CanaryPhaseSucceeded, LastAppliedSpec: now.hash, LastPromotedSpec: now.hash, TrackedConfigs: &now.configs}
			if kept {
				left.Rollout = a.canary(name).Status.Rollout
			}
			a.leave(name, left)
			before := a.recordOf(name)
			l = newLoop(t, a, 1).trackConfigs().start()
			hash, err := fingerprint.Template(a.get(deploymentResource, name).Object)
			if err != nil {
				t.Fatal(err)
			}
			l.until("the takeover", func() bool {
				r := a.canary(name).Status.Rollout
				return r != nil && r.Target != nil && r.Target.Fingerprint == hash
			})
			l.untilIdle()
			if c := a.canary(name); c.Status.Phase != v1beta1.CanaryPhaseSucceeded || !reflect.DeepEqual(a.recordOf(name), before) {
				t.Errorf("phase %s, record %v, want %v", c.Status.Phase, a.recordOf(name), before)
			}
		}))
	}
}
