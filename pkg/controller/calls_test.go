package controller

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller/cache"
)

// What it takes to get a Canary ready, and to roll out one revision, by verb and resource. More is a regression; docs/performance.md
// says what each call is for.
func TestCallsOfACanary(t *testing.T) { synctest.Test(t, testCallsOfACanary) }

func testCallsOfACanary(t *testing.T) {
	canary := canaryFor("podinfo")
	canary.Object["spec"].(map[string]any)["analysis"] = map[string]any{"interval": "10s", "threshold": int64(1), "iterations": int64(5)}
	a := newAPI(t, readingSettings("podinfo"), settings(), canary)
	l := newLoop(t, a, 1).trackConfigs().start()
	for _, stage := range []struct {
		end  v1beta1.CanaryPhase
		want map[string]int
	}{
		{v1beta1.CanaryPhaseInitialized, map[string]int{
			"create configmaps": 1, "create controllerrevisions": 1, "create deployments": 1, "create events": 1, "create services": 3,
			"get configmaps": 1, "patch deployments": 1, "update canaries/status": 4,
		}},
		{v1beta1.CanaryPhaseSucceeded, map[string]int{
			"create controllerrevisions": 1, "create events": 9, "get deployments": 1, "patch deployments": 2,
			"update canaries/status": 11, "update deployments": 1,
		}},
	} {
		l.untilPhase("podinfo", stage.end)
		l.atRest("podinfo")
		l.untilIdle()
		if diff := cmp.Diff(stage.want, l.counted()); diff != "" {
			t.Errorf("until %s (-want +got):\n%s", stage.end, diff)
		}
		a.edit(deploymentResource, "podinfo", "podinfo:2", "spec", "template", "metadata", "annotations", "image")
	}
}

// A Canary is decoded once for each of its versions, and shared by all passes that see that version: nobody changes it.
func TestSeenCanariesAreNotChanged(t *testing.T) { synctest.Test(t, testSeenCanariesAreNotChanged) }

func testSeenCanariesAreNotChanged(t *testing.T) {
	canary := canaryFor("podinfo")
	canary.Object["spec"].(map[string]any)["provider"] = "istio"
	canary.Object["spec"].(map[string]any)["analysis"] = map[string]any{
		"interval": "10s", "threshold": int64(1), "stepWeight": int64(20), "maxWeight": int64(60),
		"sessionAffinity": map[string]any{"cookieName": "side"},
		"webhooks":        []any{map[string]any{"name": "gate", "type": "confirm-promotion", "url": "http://gate/"}},
	}
	a := newAPI(t, readingSettings("podinfo"), settings(), canary)
	a.serve("networking.istio.io/v1beta1", "virtualservices", "destinationrules")
	l := newLoop(t, a, 1).trackConfigs().start()
	compared, shared := map[string]bool{}, 0
	inPhase := func(phase v1beta1.CanaryPhase) func() bool {
		return func() bool {
			const key = "test/podinfo"
			stored, err := l.canaries.Object(key)
			if err != nil {
				t.Fatal(err)
			}
			seen := l.lastSeen(key)
			if seen != nil && seen.ResourceVersion == stored.GetResourceVersion() {
				fresh, err := cache.Decode(stored)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(fresh, seen); diff != "" {
					t.Errorf("version %s was changed (-stored +seen):\n%s", seen.ResourceVersion, diff)
				}
				compared[seen.ResourceVersion] = true
			}
			if again, _, err := l.canaries.Get(key, seen); err == nil && again == seen {
				shared++
			}
			return l.phase("podinfo") == phase
		}
	}
	l.until("to be initialized", inPhase(v1beta1.CanaryPhaseInitialized))
	l.atRest("podinfo")
	a.edit(deploymentResource, "podinfo", "podinfo:2", "spec", "template", "metadata", "annotations", "image")
	l.until("to be promoted", inPhase(v1beta1.CanaryPhaseSucceeded))
	if len(compared) < 8 || shared < 8 {
		t.Errorf("%d versions were compared, %d times one was shared", len(compared), shared)
	}
}

// counted counts the calls since the last time, without those of informers.
func (l *loop) counted() map[string]int {
	counts := map[string]int{}
	for _, action := range slices.Concat(l.api.client.Actions(), l.kube.Actions()) {
		resource := action.GetResource().Resource
		if verb := action.GetVerb(); verb != "watch" && (verb != "list" || resource == "controllerrevisions") {
			if sub := action.GetSubresource(); sub != "" {
				resource += "/" + sub
			}
			counts[verb+" "+resource]++
		}
	}
	l.api.client.ClearActions()
	l.kube.ClearActions()
	return counts
}
