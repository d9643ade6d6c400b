package controller

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// order is in which order the Canaries had passes, since a number of passes.
func (l *loop) order(since int) (names []string) {
	for _, entry := range l.logs.FilterMessage("pass").All()[since:] {
		name, _, _ := strings.Cut(entry.ContextMap()["canary"].(string), ".")
		names = append(names, name)
	}
	return names
}

// Of a fleet that is looked after by one worker, a Canary whose target, ConfigMap or spec was changed comes first.
func TestNewRevisionsComeBeforePeriodicWork(t *testing.T) {
	changes := map[string]func(a *api, name string){
		"image":  func(a *api, name string) { a.paint(name, "blue") },
		"config": func(a *api, _ string) { a.edit(configMapResource, "own", "green", "data", "color") },
		"spec":   func(a *api, name string) { a.edit(canaryResource, name, true, "spec", "suspend") },
	}
	for what, change := range changes {
		t.Run(what, inBubble(func(t *testing.T) {
			const last = "app-9"
			names, objects := fleet(10)
			own := settings()
			own.SetName("own")
			a := newAPI(t, append(objects, own)...)
			spec := []string{"spec", "template", "spec", "volumes"}
			a.edit(deploymentResource, last, []any{map[string]any{"name": "own", "configMap": map[string]any{"name": "own"}}}, spec...)
			var held atomic.Pointer[chan struct{}]
			a.client.PrependReactor("update", "canaries", func(clienttesting.Action) (bool, runtime.Object, error) {
				if hold := held.Load(); hold != nil {
					<-*hold
				}
				return false, nil, nil
			})
			l := newLoop(t, a, 1).trackConfigs().start()
			for _, name := range names {
				l.untilPhase(name, v1beta1.CanaryPhaseInitialized)
				l.atRest(name)
			}
			l.untilIdle()
			before, hold := l.passes(), make(chan struct{})
			held.Store(&hold)
			a.paint("app-0", "blue")
			settle()
			for _, name := range names[1:] {
				l.queue.Add("test/" + name)
			}
			change(a, last)
			settle()
			held.Store(nil)
			close(hold)
			settle()
			order := l.order(before)
			// One more was handed out before, and waits for the worker.
			if at := slices.Index(order, last); at < 1 || at > 2 {
				t.Errorf("%s was worked on as number %d of %q, want it right after app-0", last, at, order)
			}
		}))
	}
}

// Of a fleet that is changed at once, each new revision is recorded before the first one gets pods: what follows is so much work for the
// API server that the others would wait for it.
func TestNewRevisionsAreRecordedBeforePodsCome(t *testing.T) {
	inBubble(func(t *testing.T) {
		names, objects := fleet(5)
		a := newAPI(t, objects...)
		var held atomic.Pointer[chan struct{}]
		a.client.PrependReactor("update", "canaries", func(clienttesting.Action) (bool, runtime.Object, error) {
			if hold := held.Load(); hold != nil {
				<-*hold
			}
			return false, nil, nil
		})
		l := newLoop(t, a, 1).start()
		l.untilAll(names, v1beta1.CanaryPhaseInitialized)
		for _, name := range names {
			l.atRest(name)
		}
		l.untilIdle()
		a.reset()
		hold := make(chan struct{})
		held.Store(&hold)
		for _, name := range names {
			a.paint(name, "blue")
			// Its controller has seen the change, so it may get pods at once.
			a.makeReady(name)
		}
		settle()
		held.Store(nil)
		close(hold)
		l.until("pods of all", func() bool { return a.times("patch deployments") >= len(names) })
		var recorded, scaled int
		for _, call := range a.recorded() {
			switch call {
			case "update canaries/status":
				recorded++
			case "patch deployments":
				// The last one is handed out, and no more seen to wait.
				if scaled++; recorded < len(names)-1 {
					t.Errorf("%d new revisions of %d were recorded when the %d. got pods", recorded, len(names), scaled)
				}
			}
		}
	})(t)
}
