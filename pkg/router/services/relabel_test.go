package services_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router/services"
)

// relabeled is a target that was made anew with another label, whose primary is still selected by the former one.
func relabeled() services.Input {
	return services.Input{
		Label: "name", Value: "podinfo", Primary: services.Selector{Label: "app", Value: "podinfo-primary"},
		Pods: map[string]string{"name": "podinfo", "app": "podinfo"}, Apart: map[string]string{"app": "podinfo"},
	}
}

// The Services of both sides select the pods that there are, and follow each side on its own.
func TestServicesFollowEachSide(t *testing.T) {
	w := newWorld(t)
	w.apply()
	expect := func(in services.Input, apex, primary, canary map[string]any) {
		t.Helper()
		w.applyFor(in)
		for name, want := range map[string]map[string]any{"podinfo": apex, "podinfo-primary": primary, "podinfo-canary": canary} {
			if diff := cmp.Diff(want, w.spec(name)["selector"]); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
	former, next := map[string]any{"app": "podinfo-primary"}, map[string]any{"name": "podinfo-primary"}
	expect(relabeled(), former, former, map[string]any{"name": "podinfo", "app": "podinfo"})
	replaced := relabeled()
	replaced.Primary, replaced.Apart = services.Selector{}, nil
	expect(replaced, next, next, map[string]any{"name": "podinfo"})
}

// What is led to a Service that selects other pods, or that is gone, reaches nobody.
func TestUnfound(t *testing.T) {
	w := newWorld(t)
	expect := func(in services.Input, primary, canary bool) {
		t.Helper()
		p, c, err := services.Unfound(w.canary, in, w.store)
		if err != nil || p != primary || c != canary {
			t.Errorf("unfound %t and %t, %v, want %t and %t", p, c, err, primary, canary)
		}
	}
	expect(services.Input{Label: "app", Value: "podinfo"}, true, true)
	w.apply()
	expect(services.Input{Label: "app", Value: "podinfo"}, false, false)
	expect(relabeled(), false, true)
	replaced := relabeled()
	replaced.Primary = services.Selector{}
	expect(replaced, true, true)
	w.canary.Spec.TargetRef.Kind = "Service"
	expect(replaced, false, false)
}

// A Service of the user that leads to a primary which is gone is no original, and one that selected pods of the former target is given
// back so that it leads to the present one.
func TestServiceIsGivenBackToATargetMadeAnew(t *testing.T) {
	for name, service := range map[string]string{"made by a client": usersService, "taken over by Flagger": takenOver} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.put(service)
			w.apply()
			w.canary.Status.Rollout = &v1beta1.RolloutStatus{Routing: []v1beta1.RoutingRef{{Service: "podinfo"}}}
			w.applyFor(relabeled())
			in := relabeled()
			in.Primary, in.Apart = services.Selector{}, nil
			in.Pods = map[string]string{"name": "podinfo"}
			w.applyFor(in)
			w.giveBack(in)
			if diff := cmp.Diff(map[string]any{"name": "podinfo"}, w.spec("podinfo")["selector"]); diff != "" {
				t.Errorf("selector (-want +got):\n%s", diff)
			}
		})
	}
}
