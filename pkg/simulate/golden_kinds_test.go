package simulate

import (
	"strings"
	"testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// The toy cluster runs Deployments. What the rules see of workloads of other kinds is made from that, in the words of
// pkg/workload; how those kinds behave in a cluster is tested in test/e2e.

func targetKind(apiVersion, kind string) func(*v1beta1.CanarySpec) {
	return func(s *v1beta1.CanarySpec) { s.TargetRef.APIVersion, s.TargetRef.Kind = apiVersion, kind }
}

// asDaemonSets shows DaemonSets: pods are counted in other words, and nothing reports that they are stuck.
func asDaemonSets(f *rollout.Facts) {
	for _, w := range []*rollout.Workload{&f.Target, &f.Primary} {
		w.Kind = "DaemonSet"
		switch h := &w.Health; {
		case h.State == rollout.Ready:
		case strings.Contains(h.Reason, "are available"):
			h.Reason = strings.Replace(h.Reason, "updated replicas", "updated pods", 1)
		default:
			h.State, h.Reason = rollout.Waiting, "waiting for rollout to finish: 0 out of 2 new pods have been updated"
		}
	}
}

// asRevisions shows revisions of a Knative Service: there is nothing to scale, and a revision is ready or not.
func asRevisions(f *rollout.Facts) {
	for _, w := range []*rollout.Workload{&f.Target, &f.Primary} {
		*w = unscalable(w)
		if w.Health.State != rollout.Ready {
			w.Health = rollout.Health{State: rollout.Waiting, Reason: "revision podinfo-00002.default is not ready"}
		}
	}
}

// asServices shows Services, of which it is not known whether anything serves behind them.
func asServices(f *rollout.Facts) {
	for _, w := range []*rollout.Workload{&f.Target, &f.Primary} {
		*w = unscalable(w)
		if w.Exists {
			w.Available, w.Health = 1, rollout.Health{State: rollout.Ready}
		}
	}
}

func unscalable(w *rollout.Workload) rollout.Workload {
	u := rollout.Workload{
		Exists: w.Exists, Name: w.Name, Kind: "Service", Unscalable: true, Copy: w.Copy, Health: w.Health,
		Revision: rollout.Revision{Fingerprint: w.Revision.Fingerprint, FlaggerHash: w.Revision.FlaggerHash},
	}
	if w.Exists {
		u.Replicas, u.Available = 1, min(1, w.Available)
	}
	return u
}

func kindScenarios() []scenario {
	options := func(adapt func(*rollout.Facts), provider rollout.ProviderFact, edits ...func(*v1beta1.CanarySpec)) Options {
		return Options{Canary: podinfo(edits...), Provider: provider, Template: "v1", Replicas: 2, Adapt: adapt}
	}
	broken := func(o Options) Options {
		o.Behaviors = map[string]Behavior{"v2": {Broken: true}}
		return o
	}
	bad := func(o Options) Options {
		o.Metrics = badSuccessRate("v2")
		return o
	}
	// A Service is there at once.
	instant := func(o Options) Options {
		o.Behaviors = map[string]Behavior{"v1": {}, "v2": {}}
		return o
	}
	daemons, knative, service := targetKind("apps/v1", "DaemonSet"), targetKind("serving.knative.dev/v1", "Service"), targetKind("v1", "Service")
	revisions := rollout.ProviderFact{Name: "knative", Weights: true, Routes: true}
	return []scenario{
		{"daemonset", options(asDaemonSets, mesh(), daemons), rolls(succeeded)},
		{"daemonset-deadline", broken(options(asDaemonSets, mesh(), daemons)), rolls(failed)},
		{"knative", options(asRevisions, revisions, knative), rolls(succeeded)},
		{"knative-deadline", broken(options(asRevisions, revisions, knative)), rolls(failed)},
		{"service", instant(options(asServices, mesh(), service)), rolls(succeeded)},
		{"service-failed-checks", bad(instant(options(asServices, mesh(), service, threshold(2)))), rolls(failed)},
		{"service-blue-green-kubernetes", instant(options(asServices, noMesh(), service, blueGreen(2))), rolls(succeeded)},
	}
}

func TestGoldenKinds(t *testing.T) {
	for _, s := range kindScenarios() {
		t.Run(s.name, func(t *testing.T) { checkGolden(t, s) })
	}
}
