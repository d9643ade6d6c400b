package e2e

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/fingerprint"
)

// flaggerCRDs are definitions with the fields of Flagger 1.44.
const flaggerCRDs = "test/e2e/testdata/flagger-1.44-crds.yaml"

// flaggerStatusFields are those of the status of a Canary there.
var flaggerStatusFields = []string{
	"phase", "failedChecks", "canaryWeight", "iterations", "previousSessionAffinityCookie", "sessionAffinityCookie",
	"primarySessionAffinityCookie", "trackedConfigs", "lastAppliedSpec", "lastPromotedSpec", "lastTransitionTime", "conditions",
}

// left is a Canary that Flagger left in a phase, and where it ends with us.
type left struct {
	app *flaggerApp
	end v1beta1.CanaryPhase
	// rests is whether nothing may begin.
	rests bool
}

// leftInEveryPhase are applications in each phase that Flagger writes but Terminating.
func leftInEveryPhase(approval, promotion string) []left {
	gated := func(kind v1beta1.HookType, url string) []v1beta1.CanaryWebhook {
		return []v1beta1.CanaryWebhook{{Name: "gate", Type: kind, URL: url}}
	}
	weight := func(w int32) func(*v1beta1.CanaryStatus) { return func(s *v1beta1.CanaryStatus) { s.CanaryWeight = w } }
	all := []left{
		{app: &flaggerApp{phase: v1beta1.CanaryPhaseInitializing, canary: 1, bare: true}, end: v1beta1.CanaryPhaseInitialized},
		{app: &flaggerApp{phase: v1beta1.CanaryPhaseInitialized}, end: v1beta1.CanaryPhaseInitialized, rests: true},
		{app: &flaggerApp{phase: v1beta1.CanaryPhaseSucceeded}, end: v1beta1.CanaryPhaseSucceeded, rests: true},
		{app: &flaggerApp{phase: v1beta1.CanaryPhaseFailed}, end: v1beta1.CanaryPhaseFailed, rests: true},
		{app: &flaggerApp{phase: v1beta1.CanaryPhaseWaiting, hooks: gated(v1beta1.ConfirmRolloutHook, approval)}, end: v1beta1.CanaryPhaseSucceeded},
		{app: &flaggerApp{phase: v1beta1.CanaryPhaseProgressing, canary: 1, weight: 20, status: weight(20)}, end: v1beta1.CanaryPhaseSucceeded},
		{app: &flaggerApp{
			phase: v1beta1.CanaryPhaseWaitingPromotion, canary: 1, weight: 60, hooks: gated(v1beta1.ConfirmPromotionHook, promotion),
			status: func(s *v1beta1.CanaryStatus) { s.Iterations = -1 },
		}, end: v1beta1.CanaryPhaseSucceeded},
		{app: &flaggerApp{phase: v1beta1.CanaryPhasePromoting, canary: 1, weight: 60, status: weight(60)}, end: v1beta1.CanaryPhaseSucceeded},
		{app: &flaggerApp{phase: v1beta1.CanaryPhaseFinalising, canary: 1}, end: v1beta1.CanaryPhaseSucceeded},
	}
	for i := range all {
		a := all[i].app
		a.name, a.provider, a.replicas, a.interval, a.configs = strings.ToLower(string(a.phase)), "istio", 1, "1s", true
	}
	return all
}

// TestInstall_FromFlaggerAndBack upgrades a cluster with the CRDs of Flagger 1.44 and a Canary in each phase to our CRDs and our chart, lets
// what was under way end, rolls out some more, and puts the CRDs of Flagger back: for an operator that knows only these, all is at rest.
func TestInstall_FromFlaggerAndBack(tt *testing.T) {
	needsOwnBed(tt)
	t := newTeam(tt)
	t.namespace("flagger-system")
	t.applyCRDs(flaggerCRDs)
	var approved, promoted atomic.Bool
	apps := leftInEveryPhase(t.gate(&approved), t.gate(&promoted))
	t.leaveAll(appsOf(apps))
	t.leaveTerminating()
	generations := t.generations()

	t.applyCRDs("charts/flagger/crds")
	h := t.helmOf("4", "flagger-system")
	h.install(valuesFor("istio")...)
	t.untilTakenOver(apps)
	watched()
	for _, name := range []string{"waiting", "waitingpromotion"} {
		t.untilCanary(name, "its approval", func(c *v1beta1.Canary) bool { return strings.EqualFold(string(c.Status.Phase), name) })
	}
	approved.Store(true)
	promoted.Store(true)
	for _, l := range apps {
		t.ends(l.app.name, l.end)
		now := t.generations()
		if l.rests && (now[l.app.name] != generations[l.app.name] || now[l.app.primary()] != generations[l.app.primary()]) {
			t.Errorf("%s was at rest, and its workloads were written", l.app.name)
		}
	}
	for _, event := range t.events() {
		if strings.Contains(event, "New revision detected") && !strings.Contains(event, " waiting.") {
			t.Errorf("nobody asked for what began with %q", event)
		}
	}
	t.gone(v1beta1.SchemeGroupVersion.WithResource("canaries"), "terminating")

	t.settleSome()
	t.logsOf("flagger-system")
	h.uninstall()
	t.backToFlagger(apps)

	// And here again.
	phases := t.phases()
	t.applyCRDs("charts/flagger/crds")
	h.install(valuesFor("istio")...)
	t.untilTakenOver(apps)
	watched()
	if diff := cmp.Diff(phases, t.phases()); diff != "" {
		t.Errorf("phases after the way back and here again (-before +after):\n%s", diff)
	}
}

func appsOf(all []left) (apps []*flaggerApp) {
	for _, l := range all {
		apps = append(apps, l.app)
	}
	return apps
}

// leaveTerminating leaves a Canary that is deleted while Flagger gives its target back.
func (t *team) leaveTerminating() {
	t.Helper()
	a := &flaggerApp{name: "terminating", phase: v1beta1.CanaryPhaseTerminating, provider: "istio", replicas: 1, interval: "1s"}
	t.must(t.leave(t.Context(), a))
	canaries := t.flagger.FlaggerV1beta1().Canaries(t.ns)
	patch := `{"metadata":{"finalizers":["finalizer.flagger.app"]},"spec":{"revertOnDeletion":true}}`
	_, err := canaries.Patch(t.Context(), a.name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	t.must(err)
	t.must(canaries.Delete(t.Context(), a.name, metav1.DeleteOptions{}))
}

func (t *team) untilTakenOver(apps []left) {
	t.Helper()
	for _, l := range apps {
		t.untilCanary(l.app.name, "the takeover of "+l.app.name, func(c *v1beta1.Canary) bool {
			return c.Status.Rollout != nil && c.Status.Rollout.Target != nil
		})
	}
}

func (t *team) ends(name string, phase v1beta1.CanaryPhase) {
	t.Helper()
	t.untilCanary(name, name+" in "+string(phase), func(c *v1beta1.Canary) bool {
		return c.Status.Phase == phase && c.Status.Rollout != nil && len(c.Status.Rollout.Outbox) == 0
	})
}

// settleSome has us end rollouts in each way: of an image, of a config, and one that fails.
func (t *team) settleSome() {
	t.Helper()
	canaries := t.flagger.FlaggerV1beta1().Canaries(t.ns)
	bad := `[{"op":"replace","path":"/spec/analysis/metrics/0/query","value":"vector(50)"}]`
	_, err := canaries.Patch(t.Context(), "initialized", types.JSONPatchType, []byte(bad), metav1.PatchOptions{})
	t.must(err)
	t.changeImage("initialized", v3)
	t.changeImage("succeeded", v3)
	t.changeConfig("finalising")
	t.untilProgressing("initialized", "succeeded", "finalising")
	t.ends("initialized", v1beta1.CanaryPhaseFailed)
	t.ends("succeeded", v1beta1.CanaryPhaseSucceeded)
	t.ends("finalising", v1beta1.CanaryPhaseSucceeded)
}

// backToFlagger puts the CRDs of Flagger back, and looks at each Canary as an operator does that knows nothing else.
func (t *team) backToFlagger(apps []left) {
	t.Helper()
	t.applyCRDs(flaggerCRDs)
	canaries := t.dynamic.Resource(v1beta1.SchemeGroupVersion.WithResource("canaries")).Namespace(t.ns)
	for _, l := range apps {
		var raw *unstructured.Unstructured
		// What the old definition does not know is dropped as soon as it is in force.
		err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
			var err error
			if raw, err = canaries.Get(ctx, l.app.name, metav1.GetOptions{}); err != nil {
				return false, err
			}
			_, ours, err := unstructured.NestedFieldNoCopy(raw.Object, "status", "rollout")
			return !ours, err
		})
		t.must(err)
		status, _, err := unstructured.NestedMap(raw.Object, "status")
		t.must(err)
		for field := range status {
			if !slices.Contains(flaggerStatusFields, field) {
				t.Errorf("%s: the status keeps the field %s", l.app.name, field)
			}
		}
		c := &v1beta1.Canary{}
		text, err := json.Marshal(raw.Object)
		t.must(err)
		t.must(json.Unmarshal(text, c))
		t.restsForFlagger(c)
		// Flagger writes the status of a failed Canary at once, with what it has read.
		_, err = t.flagger.FlaggerV1beta1().Canaries(t.ns).UpdateStatus(t.Context(), c, metav1.UpdateOptions{})
		t.must(err)
	}
}

// restsForFlagger is the change detection of Flagger (contract section 3.3) on what is in the cluster.
func (t *team) restsForFlagger(c *v1beta1.Canary) {
	t.Helper()
	s := &c.Status
	if !slices.Contains([]v1beta1.CanaryPhase{v1beta1.CanaryPhaseInitialized, v1beta1.CanaryPhaseSucceeded, v1beta1.CanaryPhaseFailed}, s.Phase) {
		t.Errorf("%s: Flagger goes on from phase %s", c.Name, s.Phase)
	}
	if s.CanaryWeight != 0 || s.Iterations != 0 || len(s.Conditions) == 0 {
		t.Errorf("%s: weight %d, iterations %d, conditions %v", c.Name, s.CanaryWeight, s.Iterations, s.Conditions)
	}
	target, err := t.kube.AppsV1().Deployments(t.ns).Get(t.Context(), c.Name, metav1.GetOptions{})
	t.must(err)
	if hash := flaggerHash(target.Spec.Template); hash != s.LastPromotedSpec && hash != s.LastAppliedSpec {
		t.Errorf("%s: the target has the hash %s, and %s was applied and %s promoted", c.Name, hash, s.LastAppliedSpec, s.LastPromotedSpec)
	}
	if s.Phase != v1beta1.CanaryPhaseFailed && s.LastPromotedSpec != s.LastAppliedSpec {
		t.Errorf("%s: applied %s, promoted %s", c.Name, s.LastAppliedSpec, s.LastPromotedSpec)
	}
	settings, err := t.kube.CoreV1().ConfigMaps(t.ns).Get(t.Context(), c.Name+"-settings", metav1.GetOptions{})
	t.must(err)
	token, err := t.kube.CoreV1().Secrets(t.ns).Get(t.Context(), c.Name+"-token", metav1.GetOptions{})
	t.must(err)
	want := map[string]string{
		"configmap/" + settings.Name: fingerprint.FlaggerData(settings.Data), "secret/" + token.Name: fingerprint.FlaggerData(token.Data),
	}
	if s.TrackedConfigs == nil || !maps.Equal(*s.TrackedConfigs, want) {
		t.Errorf("%s: tracked configs %v, want %v", c.Name, s.TrackedConfigs, want)
	}
}
