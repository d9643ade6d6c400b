package simulate

import (
	"fmt"
	"testing"
	"time"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// gated is a Canary with one webhook of a type that is answered no until the given time.
func gated(h v1beta1.HookType, until time.Duration, edits ...func(*v1beta1.CanarySpec)) Options {
	c := podinfo(edits...)
	c.Spec.Analysis.Webhooks = append(c.Spec.Analysis.Webhooks, v1beta1.CanaryWebhook{Name: "gate", Type: h, URL: "http://x"})
	return Options{
		Canary: c, Provider: mesh(), Template: "v1", Replicas: 2,
		Hooks: func(w *World, _ v1beta1.HookType, _ string) rollout.HookResult {
			return rollout.HookResult{Passed: w.Now() >= until, Text: "no", MuteAlert: c.Spec.Analysis.Webhooks[0].MuteAlert}
		},
	}
}

func abTest(s *v1beta1.CanarySpec) {
	blueGreen(2)(s)
	s.Analysis.Match = []v1beta1.AnalysisMatch{{Headers: map[string]v1beta1.StringMatch{"x-user": {Exact: "insider"}}}}
}

// rolls plays a rollout of v2 to its end.
func rolls(end v1beta1.CanaryPhase) func(*testing.T, *World) {
	return func(t *testing.T, w *World) {
		rest(t, w, initialized)
		w.Ship("v2")
		rest(t, w, end)
	}
}

// rollsWithCookies also notes the session cookies whenever they change.
func rollsWithCookies(t *testing.T, w *World) {
	n := 0
	w.nonces = func() [2]string {
		n++
		return [2]string{fmt.Sprintf("canary%d", n), fmt.Sprintf("primary%d", n)}
	}
	rest(t, w, initialized)
	before, names := "", map[string]string{}
	// The numbers of the random values count passes, which mean nothing here.
	short := func(cookie string) string {
		if _, ok := names[cookie]; !ok && cookie != "" {
			names[cookie] = fmt.Sprintf("%.2s#%d", cookie, len(names)+1)
		}
		return names[cookie]
	}
	for _, template := range []string{"v2", "v3"} {
		w.Ship(template)
		until(t, w, "end", time.Hour, func() bool {
			s := w.Status()
			now := fmt.Sprintf("cookies canary=%s primary=%s previous=%s", short(s.SessionAffinityCookie), short(s.PrimarySessionAffinityCookie),
				short(s.PreviousSessionAffinityCookie))
			if now != before {
				w.note("%s", now)
				before = now
			}
			return s.Phase == succeeded && s.Rollout.Target.Fingerprint == template
		})
	}
	w.Run(time.Minute)
}

// strategies are traces of what scenarios leaves out: each gate by itself, session affinity, and what a provider can't do.
func strategies() []scenario {
	with := func(o Options, edit func(*Options)) Options { edit(&o); return o }
	options := func(edits ...func(*v1beta1.CanarySpec)) Options {
		return Options{Canary: podinfo(edits...), Provider: mesh(), Template: "v1", Replicas: 2}
	}
	mute := func(o *Options) { o.Canary.Spec.Analysis.Webhooks[0].MuteAlert = true }
	plain := func(o *Options) { o.Provider = rollout.ProviderFact{Name: "traefik", Weights: true, Routes: true} }
	return []scenario{
		{"gate-confirm-rollout", gated(v1beta1.ConfirmRolloutHook, 5*time.Minute), rolls(succeeded)},
		{"gate-confirm-rollout-muted", with(gated(v1beta1.ConfirmRolloutHook, 5*time.Minute), mute), rolls(succeeded)},
		{"gate-confirm-rollout-skip", gated(v1beta1.ConfirmRolloutHook, 5*time.Minute, func(s *v1beta1.CanarySpec) { s.SkipAnalysis = true }), rolls(succeeded)},
		{"gate-traffic-increase", gated(v1beta1.ConfirmTrafficIncreaseHook, 5*time.Minute), rolls(succeeded)},
		{"gate-confirm-promotion", gated(v1beta1.ConfirmPromotionHook, 9*time.Minute), rolls(succeeded)},
		{"gate-confirm-promotion-blue-green", gated(v1beta1.ConfirmPromotionHook, 9*time.Minute, blueGreen(3)), rolls(succeeded)},
		{"gate-confirm-promotion-ab-testing", gated(v1beta1.ConfirmPromotionHook, 9*time.Minute, abTest), rolls(succeeded)},
		{"hook-pre-rollout-fails", gated(v1beta1.PreRolloutHook, time.Hour, threshold(2)), rolls(failed)},
		{"hook-rollout-fails", gated(v1beta1.RolloutHook, time.Hour, threshold(2)), rolls(failed)},
		{"hook-post-rollout", gated(v1beta1.PostRolloutHook, 0), rolls(succeeded)},
		{"ab-testing-kubernetes", with(options(abTest), func(o *Options) { o.Provider = noMesh() }), rolls(succeeded)},
		{"mirror-not-supported", with(options(func(s *v1beta1.CanarySpec) { s.Analysis.Mirror = true }), plain), rolls(succeeded)},
		{"mirror-step-weights", options(func(s *v1beta1.CanarySpec) {
			s.Analysis.Mirror, s.Analysis.StepWeight, s.Analysis.MaxWeight, s.Analysis.StepWeights = true, 0, 0, []int32{5, 50}
		}), rolls(succeeded)},
		{"promotion-steps-restart", options(func(s *v1beta1.CanarySpec) { s.Analysis.StepWeightPromotion = 20 }), func(t *testing.T, w *World) {
			rest(t, w, initialized)
			w.Ship("v2")
			untilPhase(t, w, promoting)
			w.Run(90 * time.Second)
			w.Ship("v3")
			rest(t, w, succeeded)
		}},
		{"other-selector", options(), func(t *testing.T, w *World) {
			rest(t, w, initialized)
			w.Remake("v2", "name")
			rest(t, w, succeeded)
		}},
		{"skip-mid-analysis", options(), func(t *testing.T, w *World) {
			rest(t, w, initialized)
			w.Ship("v2")
			w.Run(150 * time.Second)
			w.Edit(func(s *v1beta1.CanarySpec) { s.SkipAnalysis = true })
			rest(t, w, succeeded)
		}},
		{"failed-checks-blue-green", with(options(threshold(2), blueGreen(3)), func(o *Options) { o.Metrics = badSuccessRate("v2") }), rolls(failed)},
		{"failed-checks-ab-testing", with(options(threshold(2), abTest), func(o *Options) { o.Metrics = badSuccessRate("v2") }), rolls(failed)},
		{"metrics-error", with(options(threshold(2)), func(o *Options) {
			o.Metrics = func(*World, string) analysis.Verdict {
				return analysis.Verdict{Outcome: analysis.Error, Error: true, Message: "Prometheus query failed: no such host"}
			}
		}), rolls(failed)},
		{"session-affinity", options(func(s *v1beta1.CanarySpec) {
			s.Analysis.StepWeight, s.Analysis.MaxWeight = 25, 50
			s.Analysis.SessionAffinity = &v1beta1.SessionAffinity{CookieName: "ca", PrimaryCookieName: "pr"}
		}), rollsWithCookies},
	}
}

func TestGoldenStrategies(t *testing.T) {
	for _, s := range strategies() {
		t.Run(s.name, func(t *testing.T) { checkGolden(t, s) })
	}
}
