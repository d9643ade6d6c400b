package rollout

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

var (
	present       = v1beta1.RoutingRef{Service: "podinfo", Provider: "istio"}
	previousName  = v1beta1.RoutingRef{Service: "old", Provider: "istio"}
	routesGone    = v1beta1.RoutingRef{Service: "old"}
	previousRoute = v1beta1.RoutingRef{Service: "podinfo", Provider: "istio", Route: "edge"}
	previousMesh  = v1beta1.RoutingRef{Service: "podinfo", Provider: "contour"}
	released      = v1beta1.RoutingRef{Service: "old", Released: true}
)

// knownBy sets the record, and since when the present Services and routes have been seen in force.
func knownBy(ago time.Duration, refs ...v1beta1.RoutingRef) edit {
	return status(func(s *v1beta1.CanaryStatus) {
		s.Rollout.Routing = refs
		if ago >= 0 {
			s.Rollout.RetiringSince = micro(now.Add(-ago))
		}
	})
}

func left(r v1beta1.RoutingRef, fact PreviousFact) edit {
	return func(f *Facts) {
		if f.Previous == nil {
			f.Previous = map[v1beta1.RoutingRef]PreviousFact{}
		}
		f.Previous[r] = fact
	}
}

func TestB31_Retirement(t *testing.T) {
	const long = time.Minute
	says := "No Services and routes of the former name old are left, podinfo.test is served by podinfo"
	for name, c := range map[string]struct {
		edits   []edit
		record  []v1beta1.RoutingRef
		actions []Action
		says    string
		waits   bool
	}{
		"nothing former": {[]edit{knownBy(-1, present)}, []v1beta1.RoutingRef{present}, nil, "", false},
		"no record":      {[]edit{knownBy(-1)}, []v1beta1.RoutingRef{present}, nil, "", false},
		"just renamed": {[]edit{knownBy(-1, previousName), left(previousName, PreviousFact{Routes: true, Services: true})},
			[]v1beta1.RoutingRef{present, previousName}, nil, "", true},
		"renamed once more": {[]edit{knownBy(long, previousName, routesGone), left(previousName, PreviousFact{Routes: true})},
			[]v1beta1.RoutingRef{present, previousName, routesGone}, nil, "", true},
		"renamed back": {[]edit{knownBy(-1, previousName, v1beta1.RoutingRef{Service: "podinfo"})},
			[]v1beta1.RoutingRef{present, previousName}, nil, "", true},
		"proxies may not follow yet": {[]edit{knownBy(time.Second, present, previousName), left(previousName, PreviousFact{Routes: true})},
			[]v1beta1.RoutingRef{present, previousName}, nil, "", true},
		"routes": {[]edit{knownBy(long, present, previousName), left(previousName, PreviousFact{Routes: true, Services: true})},
			[]v1beta1.RoutingRef{present, previousName}, []Action{RetireRoutes{}}, "", false},
		"routes are gone": {[]edit{knownBy(long, present, previousName), left(previousName, PreviousFact{Services: true})},
			[]v1beta1.RoutingRef{present, routesGone}, nil, "", true},
		"routes of two providers are gone": {[]edit{
			knownBy(long, present, previousName, v1beta1.RoutingRef{Service: "old", Provider: "contour"}),
			left(previousName, PreviousFact{Services: true}), left(v1beta1.RoutingRef{Service: "old", Provider: "contour"}, PreviousFact{Services: true}),
		}, []v1beta1.RoutingRef{present, routesGone}, nil, "", true},
		"Services wait once more": {[]edit{knownBy(time.Second, present, routesGone), left(routesGone, PreviousFact{Services: true})},
			[]v1beta1.RoutingRef{present, routesGone}, nil, "", true},
		"Services": {[]edit{knownBy(long, present, routesGone), left(routesGone, PreviousFact{Services: true})},
			[]v1beta1.RoutingRef{present, routesGone}, []Action{RetireServices{}}, "", false},
		"all is gone": {[]edit{knownBy(long, present, routesGone), left(routesGone, PreviousFact{})}, []v1beta1.RoutingRef{present}, nil, says, false},
		"a user's Service": {[]edit{knownBy(long, present, routesGone), left(routesGone, PreviousFact{TakenOver: true})},
			[]v1beta1.RoutingRef{present, released}, nil,
			"Service old.test is left to its user and leads to the primary, podinfo.test is served by podinfo", false},
		"left to its user": {[]edit{knownBy(-1, present, released), left(released, PreviousFact{TakenOver: true, Services: true})},
			[]v1beta1.RoutingRef{present, released}, nil, "", false},
		"leads elsewhere": {[]edit{knownBy(-1, present, released), left(released, PreviousFact{})}, []v1beta1.RoutingRef{present}, nil, "", false},
		"another route": {[]edit{knownBy(long, present, previousRoute), left(previousRoute, PreviousFact{Routes: true})},
			[]v1beta1.RoutingRef{present, previousRoute}, []Action{RetireRoutes{}}, "", false},
		"another route is left": {[]edit{knownBy(long, present, previousRoute), left(previousRoute, PreviousFact{})}, []v1beta1.RoutingRef{present}, nil,
			"The former route leads nothing to podinfo.test any more, podinfo.test is routed by the present one", true},
		"another provider": {[]edit{knownBy(long, present, previousMesh), left(previousMesh, PreviousFact{})}, []v1beta1.RoutingRef{present}, nil,
			"No routes of provider contour are left, podinfo.test is routed by istio", true},
		"routes not known": {[]edit{knownBy(long, present, previousName), left(previousName, PreviousFact{Unknown: "forbidden"})},
			[]v1beta1.RoutingRef{present, previousName}, nil, "", false},
		"Services not known": {[]edit{knownBy(long, present, routesGone), left(routesGone, PreviousFact{Unknown: "forbidden"})},
			[]v1beta1.RoutingRef{present, routesGone}, nil, "", false},
		"not looked at": {[]edit{knownBy(long, present, previousName)}, []v1beta1.RoutingRef{present, previousName}, nil, "", false},
		"no apex": {[]edit{knownBy(long, present, previousName), left(previousName, PreviousFact{Routes: true}), func(f *Facts) { f.Services.ApexInPlace = false }},
			[]v1beta1.RoutingRef{present, previousName}, []Action{EnsureApexService{}}, "", false},
		"no routes": {[]edit{knownBy(long, present, previousName), left(previousName, PreviousFact{Routes: true}), func(f *Facts) { f.Routes.InPlace = false }},
			[]v1beta1.RoutingRef{present, previousName}, []Action{EnsureRoutes{}}, "", false},
		"routes not in force": {[]edit{knownBy(long, present, previousName), left(previousName, PreviousFact{Routes: true}),
			func(f *Facts) { f.Provider.ReportsSettled, f.Routes.Settled = true, false }},
			[]v1beta1.RoutingRef{present, previousName}, nil, "routes of podinfo.test are not in force: ", true},
		"routes not in force for as long as the deadline": {[]edit{knownBy(long, present, previousName), left(previousName, PreviousFact{Routes: true}),
			func(f *Facts) { f.Provider.ReportsSettled, f.Routes.Settled = true, false },
			clocks(v1beta1.UnreadySince{Routes: micro(now.Add(-601 * time.Second))})},
			[]v1beta1.RoutingRef{present, previousName}, []Action{RetireRoutes{}}, "routes of podinfo.test are not in force: ", false},
		"nobody reports": {[]edit{knownBy(long, present, previousName), left(previousName, PreviousFact{Routes: true}),
			func(f *Facts) { f.Provider.ReportsSettled, f.Routes.Settled, f.Routes.Silent = true, false, true }},
			[]v1beta1.RoutingRef{present, previousName}, []Action{RetireRoutes{}}, "", false},
		"clock set back": {[]edit{knownBy(0, present, previousName), left(previousName, PreviousFact{Routes: true}),
			status(func(s *v1beta1.CanaryStatus) { s.Rollout.RetiringSince = micro(now.Add(time.Hour)) })},
			[]v1beta1.RoutingRef{present, previousName}, nil, "", true},
		"suspended": {[]edit{knownBy(long, previousName), left(previousName, PreviousFact{Routes: true}), spec(func(s *v1beta1.CanarySpec) { s.Suspend = true })},
			[]v1beta1.RoutingRef{previousName}, nil, "skipping canary run as object is suspended", false},
		"provider not known": {[]edit{knownBy(-1, previousName), func(f *Facts) { f.Provider.Name = "" }}, []v1beta1.RoutingRef{previousName}, nil, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			d := Decide(facts(v1beta1.CanaryPhaseSucceeded, append([]edit{noPods}, c.edits...)...))
			if got := d.Status.Rollout.Routing; !slices.Equal(got, c.record) {
				t.Errorf("record %+v, want %+v", got, c.record)
			}
			if !reflect.DeepEqual(d.Actions, c.actions) {
				t.Errorf("actions %#v, want %#v", d.Actions, c.actions)
			}
			if d.Wake.IsZero() == c.waits {
				t.Errorf("wakes at %s, want a time: %t", d.Wake, c.waits)
			}
			var said string
			for _, n := range d.Status.Rollout.Outbox {
				said += n.Message
			}
			if said != c.says {
				t.Errorf("said %q, want %q", said, c.says)
			}
		})
	}
}

// B-31: the canary keeps its pods as long as previous routes may lead to them.
func TestB31_PreviousRoutesKeepTheCanary(t *testing.T) {
	drained := status(func(s *v1beta1.CanaryStatus) { s.Rollout.CanaryDrainedAt = micro(now.Add(-time.Minute)) })
	for name, c := range map[string]struct {
		record  []v1beta1.RoutingRef
		fact    PreviousFact
		actions []Action
		reason  ProblemReason
	}{
		"none":      {[]v1beta1.RoutingRef{present}, PreviousFact{}, []Action{ScaleTargetToZero{}}, ""},
		"there":     {[]v1beta1.RoutingRef{present, previousName}, PreviousFact{Routes: true}, []Action{RetireRoutes{}}, ""},
		"not known": {[]v1beta1.RoutingRef{present, previousName}, PreviousFact{Unknown: "forbidden"}, nil, ReasonReadFailed},
		"gone":      {[]v1beta1.RoutingRef{present, routesGone}, PreviousFact{Services: true}, []Action{ScaleTargetToZero{}, RetireServices{}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := Decide(facts(v1beta1.CanaryPhaseFinalising, knownBy(time.Minute, c.record...), left(previousName, c.fact), left(routesGone, c.fact), drained))
			if !reflect.DeepEqual(d.Actions, c.actions) {
				t.Errorf("actions %#v, want %#v", d.Actions, c.actions)
			}
			if got := troubleIn(d); got != c.reason {
				t.Errorf("condition with the reason %q, want %q", got, c.reason)
			}
		})
	}
}

// A record is bounded, and written together with the takeover of a status of Flagger.
func TestB31_Record(t *testing.T) {
	var many []v1beta1.RoutingRef
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		many = append(many, v1beta1.RoutingRef{Service: name, Provider: "istio"})
	}
	d := Decide(facts(v1beta1.CanaryPhaseSucceeded, knownBy(-1, many...)))
	if got := d.Status.Rollout.Routing; len(got) != maxPrevious || got[0] != present || got[1] != many[0] {
		t.Errorf("record %+v", got)
	}
	scaled := spec(func(s *v1beta1.CanarySpec) {
		s.AutoscalerRef = &v1beta1.AutoscalerReference{Kind: "ScaledObject", Name: "podinfo"}
	})
	d = Decide(facts(v1beta1.CanaryPhaseSucceeded, scaled, status(func(s *v1beta1.CanaryStatus) { s.Rollout, s.LastAppliedSpec = nil, "5454669676" })))
	if r := d.Status.Rollout; d.Rule != "adopt" || !slices.Equal(r.Routing, []v1beta1.RoutingRef{present}) ||
		!slices.Equal(r.Scalers, []v1beta1.ScalerRef{{Kind: "ScaledObject", Name: "podinfo"}}) {
		t.Errorf("rule %s, record %+v", d.Rule, r)
	}
}

// A previous autoscaler goes once its replacement stands, or before where the two can't stand together, and never from a primary
// without pods, which nobody would give any.
func TestPreviousScalerGoes(t *testing.T) {
	old, other := v1beta1.ScalerRef{Kind: "HorizontalPodAutoscaler", Name: "old"}, v1beta1.ScalerRef{Kind: "HorizontalPodAutoscaler", Name: "new"}
	refersTo := spec(func(s *v1beta1.CanarySpec) {
		s.AutoscalerRef = &v1beta1.AutoscalerReference{Kind: other.Kind, Name: other.Name}
	})
	scaler := func(s ScalerFact) edit {
		s.PreviousKnown = true
		return func(f *Facts) { f.Scaler = s }
	}
	record := status(func(s *v1beta1.CanaryStatus) { s.Rollout.Scalers = []v1beta1.ScalerRef{old} })
	for name, c := range map[string]struct {
		edits   []edit
		actions []Action
		record  []v1beta1.ScalerRef
	}{
		"removed":       {[]edit{scaler(ScalerFact{PreviousExist: true})}, []Action{RetireScalers{}}, []v1beta1.ScalerRef{old}},
		"removed, gone": {[]edit{scaler(ScalerFact{})}, nil, nil},
		"not known":     {[]edit{func(f *Facts) { f.Scaler = ScalerFact{} }}, nil, []v1beta1.ScalerRef{old}},
		"renamed": {[]edit{refersTo, scaler(ScalerFact{Wanted: true, PreviousExist: true})}, []Action{EnsurePrimaryScaler{}},
			[]v1beta1.ScalerRef{other, old}},
		"renamed, replaced": {[]edit{refersTo, scaler(ScalerFact{Wanted: true, InPlace: true, PreviousExist: true})}, []Action{RetireScalers{}},
			[]v1beta1.ScalerRef{other, old}},
		"renamed, KEDA": {[]edit{refersTo, scaler(ScalerFact{Wanted: true, Pausable: true, Paused: true, PreviousExist: true})},
			[]Action{RetireScalers{}, EnsurePrimaryScaler{}}, []v1beta1.ScalerRef{other, old}},
		"renamed, gone":        {[]edit{refersTo, scaler(ScalerFact{Wanted: true, InPlace: true})}, nil, []v1beta1.ScalerRef{other}},
		"removed, target held": {[]edit{scaler(ScalerFact{PreviousPaused: true})}, []Action{ResumePreviousScalers{}}, []v1beta1.ScalerRef{old}},
		"primary without pods, target held": {[]edit{scaler(ScalerFact{PreviousExist: true, PreviousPaused: true}), func(f *Facts) { f.Primary.Replicas = 0 }},
			[]Action{ResumePreviousScalers{}}, []v1beta1.ScalerRef{old}},
		"primary without pods": {[]edit{scaler(ScalerFact{PreviousExist: true}), func(f *Facts) { f.Primary.Replicas = 0 }}, nil,
			[]v1beta1.ScalerRef{old}},
	} {
		t.Run(name, func(t *testing.T) {
			d := Decide(facts(v1beta1.CanaryPhaseSucceeded, append([]edit{record}, c.edits...)...))
			if !reflect.DeepEqual(d.Actions, c.actions) {
				t.Errorf("actions %#v, want %#v", d.Actions, c.actions)
			}
			if got := d.Status.Rollout.Scalers; !slices.Equal(got, c.record) {
				t.Errorf("record %+v, want %+v", got, c.record)
			}
		})
	}
}

// Copies of configs go at rest only, when no pod of an earlier revision reads them any more.
func TestUnusedCopiesGo(t *testing.T) {
	unused := func(f *Facts) { f.UnusedCopies = true }
	for name, c := range map[string]struct {
		phase v1beta1.CanaryPhase
		edits []edit
		goes  bool
	}{
		"at rest":                 {v1beta1.CanaryPhaseSucceeded, nil, true},
		"after a rollback":        {v1beta1.CanaryPhaseFailed, nil, true},
		"during a run":            {v1beta1.CanaryPhaseProgressing, []edit{running(10)}, false},
		"primary on its way":      {v1beta1.CanaryPhaseSucceeded, []edit{func(f *Facts) { unready(&f.Primary, Waiting, 1) }}, false},
		"primary changed by hand": {v1beta1.CanaryPhaseSucceeded, []edit{func(f *Facts) { f.Primary.Copy = "" }}, false},
		"canary serves": {v1beta1.CanaryPhaseFailed, []edit{status(func(s *v1beta1.CanaryStatus) {
			s.CanaryWeight, s.Rollout.ServingSide = 100, v1beta1.ServingCanary
		})}, false},
	} {
		d := Decide(facts(c.phase, append([]edit{unused}, c.edits...)...))
		if goes := slices.Contains(d.Actions, Action(RetireCopies{})); goes != c.goes {
			t.Errorf("%s: actions %#v", name, d.Actions)
		}
	}
}

// Copies get their content back whenever nothing else is about to change them.
func TestChangedCopiesAreRestored(t *testing.T) {
	for phase, restored := range map[v1beta1.CanaryPhase]bool{
		initialized: true, progressing: true, v1beta1.CanaryPhaseWaitingPromotion: true, waiting: true, failed: true, succeeded: true,
		promotingTo: false, finalisingP: false, v1beta1.CanaryPhaseInitializing: false,
	} {
		f := facts(phase, running(10), hook(v1beta1.ConfirmRolloutHook), hook(v1beta1.ConfirmPromotionHook),
			answer(v1beta1.ConfirmRolloutHook, false), answer(v1beta1.ConfirmPromotionHook, false),
			func(f *Facts) { f.Copies.Restorable = true })
		d := Decide(f)
		if got := slices.Contains(d.Actions, Action(RestoreCopies{})); len(d.Needs) > 0 || got != restored {
			t.Errorf("%s: restored: %t, actions %#v, needs %v", phase, got, d.Actions, d.Needs)
		}
	}
	suspended := facts(succeeded, spec(func(s *v1beta1.CanarySpec) { s.Suspend = true }), func(f *Facts) { f.Copies.Restorable = true })
	if d := Decide(suspended); len(d.Actions) > 0 {
		t.Errorf("suspended: %#v", d.Actions)
	}
}

// What the primary runs and reads at rest is told where it is not what was promoted, after anything worse.
func TestChangedPrimaryIsTold(t *testing.T) {
	edited := func(f *Facts) { f.Primary.Copy, f.Primary.Edited = "", true }
	lost := func(f *Facts) { f.Copies.Lost, f.Copies.Source = "ConfigMap a-primary.test", "ConfigMap a.test" }
	for name, c := range map[string]struct {
		facts Facts
		want  want
	}{
		"template": {facts(succeeded, edited), want{rule: "settled", reason: ReasonPrimaryChanged, says: []string{"podinfo-primary.test is not what was promoted"}}},
		"after a rollback": {facts(failed, edited), want{rule: "settled", reason: ReasonPrimaryChanged,
			says: []string{"podinfo-primary.test is not what was promoted"}}},
		"configs": {facts(succeeded, lost), want{rule: "settled", reason: ReasonPrimaryChanged,
			says: []string{"ConfigMap a-primary.test, which podinfo-primary.test reads, has not the content that was promoted"}}},
		"once": {facts(succeeded, lost, health(ReasonPrimaryChanged, "ConfigMap a-primary.test, which podinfo-primary.test reads, has not the "+
			"content that was promoted, and that is kept nowhere: give it back to ConfigMap a.test, or roll out another revision of podinfo.test", now)),
			want{rule: "settled", reason: ReasonPrimaryChanged}},
		"without a record": {facts(succeeded, func(f *Facts) { f.Primary.Copy = "" }), want{rule: "settled", reason: ReasonPrimaryChanged,
			says: []string{"podinfo-primary.test is not what was promoted"}}},
		"without a record, and nothing to compare with": {facts(failed, targetRuns("2", 2), status(func(s *v1beta1.CanaryStatus) {
			s.Rollout.Target = refTo(rev("2", 2))
		}), func(f *Facts) { f.Primary.Copy = "" }), want{rule: "settled"}},
		"nobody knows what was promoted": {facts(succeeded, edited, status(func(s *v1beta1.CanaryStatus) {
			s.Rollout.Promoted.Fingerprint = unknownRevision
		})), want{rule: "settled"}},
		"nobody answers": {facts(succeeded, edited, func(f *Facts) { unready(&f.Primary, Waiting, 0) }), want{rule: "settled", reason: ReasonPrimaryNotReady,
			says: []string{"no ready pods"}}},
		"under way": {facts(progressing, running(10), edited, status(func(s *v1beta1.CanaryStatus) {
			s.Rollout.NextCheckAt = micro(now.Add(time.Second))
		})), want{rule: "not-due", weight: 10}},
	} {
		t.Run(name, func(t *testing.T) {
			d := Decide(c.facts)
			check(t, d, c.want)
			if got := troubleIn(d); c.want.reason == "" && got != "" {
				t.Errorf("not healthy: %s", got)
			}
		})
	}
}
