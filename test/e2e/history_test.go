package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	watchtools "k8s.io/client-go/tools/watch"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/fingerprint"
	"flagger.app/flagger/test/history"
)

// TestHistory changes images, ConfigMaps and Secrets at random moments of rollouts. The record of all writes then proves that
// every revision was analyzed or gave way to a newer one, and that the primary was never given anything else than what had
// passed its whole analysis. The seed in the log, put into SEED, makes the same changes again, at about the same moments.
func TestHistory(tt *testing.T) {
	tt.Parallel()
	needsBed(tt)
	seed := rand.Uint64()
	if s := os.Getenv("SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			tt.Fatal(err)
		}
	}
	tt.Logf("seed %d", seed)
	weights := []history.Step{{Weight: 20}, {Weight: 40}, {Weight: 60}}
	var mu sync.Mutex
	var all history.Summary
	tt.Run("teams", func(tt *testing.T) {
		for i, c := range []struct {
			name  string
			edit  func(*team, *rand.Rand, *v1beta1.Canary)
			steps []history.Step
			kills bool
		}{
			{name: "progressive", steps: weights},
			{name: "killed", steps: weights, kills: true},
			{name: "blue-green", edit: blueGreen, steps: []history.Step{{Iteration: 1}, {Iteration: 2}, {Weight: 100, Iteration: 3}}},
			{name: "gates", edit: gates, steps: weights},
			{name: "skip", edit: skips, steps: weights},
		} {
			tt.Run(c.name, func(tt *testing.T) {
				tt.Parallel()
				random := rand.New(rand.NewPCG(seed, uint64(i)))
				wild := canary(func(c *v1beta1.Canary) { c.Spec.Analysis.Interval = "500ms" })
				t := newTeam(tt)
				if c.edit != nil {
					c.edit(t, random, wild)
				}
				sum := t.prove(t.live(random, wild, c.kills), c.steps)
				mu.Lock()
				defer mu.Unlock()
				all.Add(sum)
			})
		}
	})
	tt.Logf("all: %s", all)
	if all.Promoted == all.Skipped || all.Skipped == 0 || all.Superseded == 0 || all.Failed == 0 {
		tt.Errorf("the changes did not lead to every end: %s", all)
	}
}

func blueGreen(_ *team, _ *rand.Rand, c *v1beta1.Canary) {
	c.Spec.Analysis.StepWeight, c.Spec.Analysis.MaxWeight, c.Spec.Analysis.Iterations = 0, 0, 2
}

func skips(_ *team, _ *rand.Rand, c *v1beta1.Canary) { c.Spec.SkipAnalysis = true }

// lastRun is what the URLs of webhooks are asked with for the last run of a history.
const lastRun = "last"

// gates puts webhooks in the way that refuse at random, one of which takes a revision back now and then, and the last one for certain.
func gates(t *team, random *rand.Rand, c *v1beta1.Canary) {
	var mu sync.Mutex
	dice := rand.New(rand.NewPCG(random.Uint64(), 0))
	kinds := []v1beta1.HookType{v1beta1.ConfirmRolloutHook, v1beta1.RollbackHook, v1beta1.ConfirmPromotionHook}
	untilRollback := 4
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		passes := dice.IntN(5) > 1
		var told struct{ Phase v1beta1.CanaryPhase }
		if err := json.NewDecoder(r.Body).Decode(&told); err != nil {
			t.Error(err)
		}
		if r.URL.Path == "/"+string(v1beta1.RollbackHook) {
			untilRollback--
			passes = untilRollback == 0
			if passes {
				untilRollback = 6 + dice.IntN(10)
			}
			passes = passes || r.URL.RawQuery == lastRun && told.Phase == v1beta1.CanaryPhaseProgressing
		}
		if !passes {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(server.Close)
	for _, kind := range kinds {
		c.Spec.Analysis.Webhooks = append(c.Spec.Analysis.Webhooks, v1beta1.CanaryWebhook{
			Name: string(kind), Type: kind, URL: server.URL + "/" + string(kind), Timeout: "1m",
		})
	}
}

// live runs the life of a Canary: changes at random moments, some of which come while nothing runs, and then rest. It returns
// the record of it.
func (t *team) live(random *rand.Rand, c *v1beta1.Canary, kills bool) *history.Recorder {
	t.Helper()
	t.apply(settings)
	t.apply(withConfigs(podinfo(1)))
	t.available("podinfo")
	record, err := history.Record(context.Background(), t.dynamic, t.ns, clock.RealClock{})
	t.must(err)
	o := t.operate("-mesh-provider", "istio")
	t.create(c)
	t.settled(v1beta1.CanaryPhaseInitialized)
	const changes = 9
	now := wishes{image: v1, message: "one", key: "first"}
	last := now
	for range changes {
		next := now.changed(random)
		if random.IntN(5) == 0 {
			// Often this is what the primary runs.
			next = last
		}
		t.Logf("%s %+v", time.Now().Format("15:04:05.000"), next)
		t.wish(now, next)
		last, now = now, next
		t.goOn(random)
		if kills && random.IntN(2) == 0 {
			o.kill()
			o = t.operate("-mesh-provider", "istio")
		}
	}
	if len(c.Spec.Analysis.Webhooks) > 0 {
		t.lastRun(now)
	}
	t.restful()
	return record
}

// lastRun ships what neither the target nor the primary has.
func (t *team) lastRun(now wishes) {
	t.Helper()
	t.edit(func(s *v1beta1.CanarySpec) {
		for i := range s.Analysis.Webhooks {
			s.Analysis.Webhooks[i].URL += "?" + lastRun
		}
	})
	_, primary := t.replicas("podinfo-primary")
	next := now
	for _, image := range []string{v1, v2, v3} {
		if image != now.image && image != primary {
			next.image = image
		}
	}
	t.wish(now, next)
}

// goOn lets a random time pass, or waits for a phase to meet: some last for less than a second.
func (t *team) goOn(random *rand.Rand) {
	t.Helper()
	phases := []v1beta1.CanaryPhase{
		v1beta1.CanaryPhaseProgressing, v1beta1.CanaryPhasePromoting, v1beta1.CanaryPhaseFinalising, v1beta1.CanaryPhaseSucceeded,
	}
	pause := time.Duration(random.IntN(4000)) * time.Millisecond
	phase := phases[random.IntN(len(phases))]
	if random.IntN(2) == 0 {
		letPass(pause)
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
	defer cancel()
	r := t.dynamic.Resource(v1beta1.SchemeGroupVersion.WithResource("canaries")).Namespace(t.ns)
	_, err := watchtools.UntilWithSync(ctx, watchOf(ctx, r, "podinfo"), &unstructured.Unstructured{}, nil, func(e watch.Event) (bool, error) {
		u, ok := e.Object.(*unstructured.Unstructured)
		if !ok {
			return false, nil
		}
		got, _, err := unstructured.NestedString(u.Object, "status", "phase")
		return got == string(phase), err
	})
	if err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	letPass(pause / 16)
}

// wishes are what the user of an application changes.
type wishes struct{ image, message, key string }

// changed is a wish that differs in one thing, or in none: an image may be shipped again.
func (w wishes) changed(random *rand.Rand) wishes {
	switch random.IntN(4) {
	case 0:
		w.message = fmt.Sprint("message ", random.IntN(3))
	case 1:
		w.key = fmt.Sprint("key ", random.IntN(3))
	default:
		w.image = []string{v1, v2, v3}[random.IntN(3)]
	}
	return w
}

// wish makes what differs so.
func (t *team) wish(now, next wishes) {
	t.Helper()
	if next.message != now.message {
		t.patchConfig("configmaps", "settings", map[string]any{"data": map[string]string{"PODINFO_UI_MESSAGE": next.message}})
	}
	if next.key != now.key {
		t.patchConfig("secrets", "token", map[string]any{"stringData": map[string]string{"key": next.key}})
	}
	if next.image != now.image {
		t.ship(next.image)
	}
}

func (t *team) patchConfig(resource, name string, patch map[string]any) {
	t.Helper()
	raw, err := json.Marshal(patch)
	t.must(err)
	core := t.kube.CoreV1()
	if resource == "secrets" {
		_, err = core.Secrets(t.ns).Patch(t.Context(), name, types.MergePatchType, raw, metav1.PatchOptions{})
	} else {
		_, err = core.ConfigMaps(t.ns).Patch(t.Context(), name, types.MergePatchType, raw, metav1.PatchOptions{})
	}
	t.must(err)
}

// restful waits until there is a verdict on what the target and its configs are now.
func (t *team) restful() {
	t.Helper()
	target, err := t.dynamic.Resource(deployments).Namespace(t.ns).Get(t.Context(), "podinfo", metav1.GetOptions{})
	t.must(err)
	template, err := fingerprint.Template(target.Object)
	t.must(err)
	cm := t.configMap("settings")
	secret, err := t.kube.CoreV1().Secrets(t.ns).Get(t.Context(), "token", metav1.GetOptions{})
	t.must(err)
	configs := map[string]string{
		"configmap/settings": fingerprint.Data(cm.Data, cm.BinaryData), "secret/token": fingerprint.Data(secret.Data, nil),
	}
	t.until("a verdict on the last revision", func(c *v1beta1.Canary) bool {
		r := c.Status.Rollout
		return (c.Status.Phase == v1beta1.CanaryPhaseSucceeded || c.Status.Phase == v1beta1.CanaryPhaseFailed || c.Status.Phase == v1beta1.CanaryPhaseInitialized) &&
			r.Target.Fingerprint == template && maps.Equal(r.Target.Configs, configs) && len(r.Outbox) == 0
	})
}

// recorded ends a record of podinfo and its configs, and returns what it holds.
func (t *team) recorded(record *history.Recorder, configs ...string) ([]history.State, []history.Moment) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	states, err := record.Stop(ctx)
	t.must(err)
	moments, err := history.Moments(states, history.Subject{Canary: "podinfo", Target: "podinfo", Configs: configs})
	t.must(err)
	return states, moments
}

// prove checks the record, and shows it when it breaks a promise.
func (t *team) prove(record *history.Recorder, steps []history.Step) history.Summary {
	t.Helper()
	states, moments := t.recorded(record, "configmap/settings", "secret/token")
	// A change is taken up at once; the time is that which a killed operator needs to come back on a busy machine.
	violations, sum := history.Check(moments, history.Rules{Steps: steps, Threshold: 2, Notice: time.Minute})
	t.Logf("%d writes: %s", len(states), sum)
	for _, v := range violations {
		t.Error(v)
	}
	if len(violations) > 0 {
		t.Logf("the history:\n%s", told(moments))
	}
	return sum
}

func told(moments []history.Moment) string {
	var b strings.Builder
	for i := range moments {
		m := &moments[i]
		fmt.Fprintf(&b, "%d %s target %v primary %v %s run %d of %v promoted %v step %+v\n", m.Version, m.At.Format("15:04:05.000"),
			m.Target, m.Primary, m.Status.Phase, m.Status.Run, m.Status.Target, m.Status.Promoted, m.Status.Step)
	}
	return b.String()
}
