package e2e

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/test/audit"
	"flagger.app/flagger/test/history"
)

// manyApps are 100 applications at rest, with every combination of the phases, the providers and the traits that count.
//
// Each primary has a pod, which does nothing: no request is sent here, and 100 that serve would cost the most of the test.
func manyApps() []*flaggerApp {
	phases := []v1beta1.CanaryPhase{v1beta1.CanaryPhaseInitialized, v1beta1.CanaryPhaseSucceeded, v1beta1.CanaryPhaseFailed}
	var apps []*flaggerApp
	for i := range 100 {
		a := &flaggerApp{
			name: fmt.Sprintf("app-%02d", i), phase: phases[i%3], provider: "kubernetes",
			replicas: 1, scaler: i/2%2 == 1, configs: i/4%2 == 1, adopted: i%7 == 3, discovery: i%5 == 1,
		}
		if i%2 == 0 {
			a.provider, a.policy, a.abTest = "istio", i%6 == 2, i%10 == 4
		}
		apps = append(apps, a)
	}
	return apps
}

// TestTakeover lets the operator take over 100 Canaries that Flagger left at rest: it writes each status once and nothing else.
// What users changed while nothing ran is found, and nothing else is.
func TestTakeover(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	apps := manyApps()
	// These are changed after Flagger stopped and before we start: the live primary tells.
	late := []*flaggerApp{
		{name: "late-image", phase: v1beta1.CanaryPhaseInitialized, provider: "istio", replicas: 1},
		{name: "late-config", phase: v1beta1.CanaryPhaseSucceeded, provider: "kubernetes", replicas: 1, configs: true},
		{name: "late-secret", phase: v1beta1.CanaryPhaseInitialized, provider: "istio", replicas: 1, configs: true, scaler: true},
	}
	t.leaveAll(append(slices.Clone(apps), late...))
	t.Logf("%s: %d Canaries are left", time.Now().Format(time.TimeOnly), len(apps)+len(late))
	t.changeImage("late-image", v3)
	t.changeConfig("late-config")
	t.changeSecret("late-secret")
	generations := t.generations()

	user := "takeover-" + t.ns
	args := []string{"-kubeconfig", t.kubeconfigAs(user), "-min-analysis-interval", "10s"}
	began := time.Now()
	o := t.operate(args...)
	t.untilTold(o, len(apps)+len(late))
	t.untilProgressing("late-config", "late-image", "late-secret")
	watched()
	t.expectAdopted(user, began, len(apps))
	t.must(o.stop())
	t.Logf("%s: taken over", time.Now().Format(time.TimeOnly))

	began = time.Now()
	o = t.operate(args...)
	t.untilTold(o, len(apps)+len(late))
	watched()
	if writes := t.writesOf(user, began, "app-"); len(writes) > 0 {
		t.Errorf("the second start writes\n%s", strings.Join(writes, "\n"))
	}
	if diff := cmp.Diff(withPrefix(generations, "app-"), withPrefix(t.generations(), "app-")); diff != "" {
		t.Errorf("generations of workloads (-before +after):\n%s", diff)
	}
	t.must(o.stop())
	t.Logf("%s: started again", time.Now().Format(time.TimeOnly))
	t.changedMeanwhile(args, len(apps)+len(late))
}

// changedMeanwhile changes some applications while no operator runs, some of them in ways that ask for no rollout.
func (t *team) changedMeanwhile(args []string, all int) {
	t.Helper()
	// By phase: Initialized, Succeeded, Failed, as the index leaves the remainder 0, 1, 2.
	t.changeImage("app-00", v3)
	t.changeImage("app-01", v3)
	t.changeImage("app-11", v3)
	t.changeConfig("app-12")
	t.changeConfig("app-13")
	t.changeSecret("app-22")
	t.changeSecret("app-23")
	changed := []string{"app-00", "app-01", "app-11", "app-12", "app-13", "app-22", "app-23"}
	// What failed under Flagger is taken back: the primary runs that already.
	t.changeImage("app-05", v1)
	t.changeImage("app-08", v1)
	t.touch("app-45")
	t.touch("app-46")
	t.touch("app-47")
	before := t.phases()
	t.operate(args...)
	t.untilProgressing(changed...)
	watched()
	for name, phase := range t.phases() {
		if strings.HasPrefix(name, "app-") && !slices.Contains(changed, name) && phase != before[name] {
			t.Errorf("%s was not changed and went from phase %s to %s", name, before[name], phase)
		}
	}
	if got := len(t.phases()); got != all {
		t.Errorf("%d Canaries, want %d", got, all)
	}
}

// watched is time in which something could be written that must not be.
func watched() { letPass(6 * time.Second) }

// leaveAll creates applications, some at a time.
func (t *team) leaveAll(apps []*flaggerApp) {
	t.Helper()
	var group sync.WaitGroup
	var next atomic.Int32
	errs := make(chan error, len(apps))
	for range 8 {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(apps); i = int(next.Add(1)) - 1 {
				if err := t.leave(t.Context(), apps[i]); err != nil {
					errs <- fmt.Errorf("%s: %w", apps[i].name, err)
				}
			}
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		t.Fatal(err)
	}
	for _, a := range apps {
		t.availableTo(a)
	}
}

// availableTo waits until the controllers of Kubernetes have nothing left to do for an application.
func (t *team) availableTo(a *flaggerApp) {
	t.Helper()
	for name, want := range map[string]int64{a.name: int64(a.canary), a.primary(): int64(a.replicas)} {
		t.untilObject(deployments, name, func(u *unstructured.Unstructured) bool { return rolledOut(u, want) })
	}
}

// rolledOut is whether a Deployment has so many pods, of its template alone, and all are available.
func rolledOut(u *unstructured.Unstructured, pods int64) bool {
	status := func(field string) int64 {
		n, _, _ := unstructured.NestedInt64(u.Object, "status", field)
		return n
	}
	return status("observedGeneration") == u.GetGeneration() && status("updatedReplicas") == pods &&
		status("replicas") == pods && status("availableReplicas") == pods
}

func (t *team) changeImage(name, image string) {
	t.Helper()
	patch := fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":"app","image":%q}]}}}}`, image)
	_, err := t.kube.AppsV1().Deployments(t.ns).Patch(t.Context(), name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	t.must(err)
}

func (t *team) changeConfig(name string) {
	t.Helper()
	t.patchConfig("configmaps", name+"-settings", map[string]any{"data": map[string]string{"COLOR": "blue"}})
}

func (t *team) changeSecret(name string) {
	t.Helper()
	t.patchConfig("secrets", name+"-token", map[string]any{"stringData": map[string]string{"key": "second"}})
}

// touch changes what makes no revision.
func (t *team) touch(name string) {
	t.Helper()
	patch := []byte(`{"metadata":{"labels":{"touched":"yes"},"annotations":{"touched":"yes"}}}`)
	_, err := t.kube.AppsV1().Deployments(t.ns).Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
	t.must(err)
	_, err = t.dynamic.Resource(deployments).Namespace(t.ns).Patch(t.Context(), name, types.MergePatchType,
		[]byte(`{"spec":{"minReadySeconds":1,"revisionHistoryLimit":5}}`), metav1.PatchOptions{})
	t.must(err)
	for resource, suffix := range map[string]string{"configmaps": "-settings", "secrets": "-token"} {
		t.patchConfig(resource, name+suffix, map[string]any{"metadata": map[string]any{"labels": map[string]string{"touched": "yes"}}})
	}
}

// untilTold waits until the metrics of an operator tell of a number of Canaries, each of which has had a pass by then.
func (t *team) untilTold(o *operator, want int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	got := 0
	for range ticker.C {
		if got = strings.Count(t.metricsOf(ctx, o), "\nflagger_canary_status{"); got == want {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the metrics tell of %d Canaries, want %d", got, want)
		}
	}
}

func (t *team) metricsOf(ctx context.Context, o *operator) string {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/metrics", o.port), http.NoBody)
	t.must(err)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		// Not up yet.
		return ""
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return ""
	}
	return string(raw)
}

// expectAdopted checks what the first start wrote: the status of each Canary once, in which its phase is as it was.
func (t *team) expectAdopted(user string, since time.Time, all int) {
	t.Helper()
	statuses := map[string]int{}
	for _, w := range t.writesOf(user, since, "app-") {
		verb, name, _ := strings.Cut(w, " canaries/status ")
		if verb != "update" && verb != "patch" {
			t.Errorf("the first start writes %s", w)
			continue
		}
		if statuses[name]++; statuses[name] == 2 {
			t.Errorf("%s is written twice", name)
		}
	}
	if len(statuses) != all {
		t.Errorf("%d statuses were taken over, want %d", len(statuses), all)
	}
	for _, a := range manyApps() {
		c, err := t.flagger.FlaggerV1beta1().Canaries(t.ns).Get(t.Context(), a.name, metav1.GetOptions{})
		t.must(err)
		r := c.Status.Rollout
		if c.Status.Phase != a.phase || r == nil || r.Target == nil || r.Run != 0 || !strings.HasPrefix(r.Target.Fingerprint, "v2:") {
			t.Errorf("%s: phase %s and record %+v after %s", a.name, c.Status.Phase, r, a.phase)
		}
	}
}

// writesOf lists what a user wrote about objects whose names begin with a prefix, events included.
func (t *team) writesOf(user string, since time.Time, prefix string) []string {
	t.Helper()
	var writes []string
	t.audit(user, since, func(e *audit.Call) {
		switch e.Verb {
		case "create", "update", "patch", "delete", "deletecollection":
		default:
			return
		}
		if e.ObjectRef == nil || !strings.HasPrefix(e.ObjectRef.Name, prefix) {
			if e.ObjectRef == nil || e.ObjectRef.Name == "" {
				t.Errorf("a write without the name of its object: %s %s", e.Verb, e.RequestURI)
			}
			return
		}
		writes = append(writes, e.Verb+" "+e.Resource()+" "+e.ObjectRef.Name)
	})
	return writes
}

func (t *team) generations() map[string]int64 {
	t.Helper()
	list, err := t.kube.AppsV1().Deployments(t.ns).List(t.Context(), metav1.ListOptions{})
	t.must(err)
	out := map[string]int64{}
	for i := range list.Items {
		out[list.Items[i].Name] = list.Items[i].Generation
	}
	return out
}

func withPrefix(of map[string]int64, prefix string) map[string]int64 {
	out := maps.Clone(of)
	maps.DeleteFunc(out, func(name string, _ int64) bool { return !strings.HasPrefix(name, prefix) })
	return out
}

func (t *team) phases() map[string]v1beta1.CanaryPhase {
	t.Helper()
	list, err := t.flagger.FlaggerV1beta1().Canaries(t.ns).List(t.Context(), metav1.ListOptions{})
	t.must(err)
	out := map[string]v1beta1.CanaryPhase{}
	for i := range list.Items {
		out[list.Items[i].Name] = list.Items[i].Status.Phase
	}
	return out
}

// untilProgressing waits until Canaries have begun to analyze a change.
func (t *team) untilProgressing(names ...string) {
	t.Helper()
	for _, name := range names {
		t.untilCanary(name, "a rollout of "+name, func(c *v1beta1.Canary) bool {
			return c.Status.Phase == v1beta1.CanaryPhaseProgressing
		})
	}
}

// TestTakeoverUnderWay takes over runs in every phase: they go on where Flagger was, tell nothing twice, and the primary is
// written at its promotion only.
func TestTakeoverUnderWay(tt *testing.T) {
	tt.Parallel()
	const podinfo = "[./podinfo, --port=9898, --level=info]"
	steps := func(from int) (want []string) {
		for weight := from; weight <= 60; weight += 20 {
			want = append(want, fmt.Sprintf("canary weight %d", weight))
		}
		return append(want, "Copying", "Routing all traffic to primary", "Promotion completed!")
	}
	for name, c := range map[string]struct {
		app flaggerApp
		// gate is the type of a webhook that is closed until the takeover was seen.
		gate v1beta1.HookType
		// tells are parts of the events, in order, and primary how often the primary is written.
		tells   []string
		primary int
		end     v1beta1.CanaryPhase
	}{
		"Progressing": {
			app: flaggerApp{phase: v1beta1.CanaryPhaseProgressing, canary: 1, weight: 20, status: func(s *v1beta1.CanaryStatus) {
				s.CanaryWeight, s.FailedChecks = 20, 1
			}},
			tells: steps(40), primary: 1, end: v1beta1.CanaryPhaseSucceeded,
		},
		// The failed check that Flagger counted counts.
		"Progressing to a failure": {
			app: flaggerApp{phase: v1beta1.CanaryPhaseProgressing, canary: 1, weight: 20, bad: true, status: func(s *v1beta1.CanaryStatus) {
				s.CanaryWeight, s.FailedChecks = 20, 1
			}},
			tells: []string{"Halt podinfo", "failed checks threshold reached 2", "Canary failed!"}, end: v1beta1.CanaryPhaseFailed,
		},
		"Progressing from the start": {
			app:   flaggerApp{phase: v1beta1.CanaryPhaseProgressing, canary: 1},
			tells: append([]string{"Starting canary analysis"}, steps(20)...), primary: 1, end: v1beta1.CanaryPhaseSucceeded,
		},
		// The routes know what Flagger's status forgets: the weight and a count that makes sense (B-06).
		"WaitingPromotion": {
			app: flaggerApp{phase: v1beta1.CanaryPhaseWaitingPromotion, canary: 1, weight: 60, status: func(s *v1beta1.CanaryStatus) {
				s.Iterations = -1
			}},
			gate: v1beta1.ConfirmPromotionHook, primary: 1, end: v1beta1.CanaryPhaseSucceeded,
			tells: []string{"Confirm-promotion check gate passed", "Copying", "Routing all traffic to primary", "Promotion completed!"},
		},
		"Promoting": {
			app: flaggerApp{phase: v1beta1.CanaryPhasePromoting, canary: 1, weight: 60, status: func(s *v1beta1.CanaryStatus) {
				s.CanaryWeight = 60
			}},
			tells: []string{"Routing all traffic to primary", "Promotion completed!"}, end: v1beta1.CanaryPhaseSucceeded,
		},
		"Finalising": {
			app:   flaggerApp{phase: v1beta1.CanaryPhaseFinalising, canary: 1},
			tells: []string{"Promotion completed!"}, end: v1beta1.CanaryPhaseSucceeded,
		},
		"Waiting": {
			app:  flaggerApp{phase: v1beta1.CanaryPhaseWaiting},
			gate: v1beta1.ConfirmRolloutHook, primary: 1, end: v1beta1.CanaryPhaseSucceeded,
			tells: append([]string{"Confirm-rollout check gate passed", "New revision detected! Scaling up", "Starting canary analysis"}, steps(20)...),
		},
		"Initializing": {
			app:   flaggerApp{phase: v1beta1.CanaryPhaseInitializing, canary: 1, bare: true},
			tells: []string{"all the metrics providers are available!", "Initialization done!"}, end: v1beta1.CanaryPhaseInitialized,
		},
	} {
		tt.Run(name, func(tt *testing.T) {
			tt.Parallel()
			t := newTeam(tt)
			var open atomic.Bool
			a := &c.app
			a.name, a.provider, a.pods, a.configs, a.replicas, a.interval = "podinfo", "istio", podinfo, true, 1, "1s"
			if c.gate != "" {
				a.hooks = []v1beta1.CanaryWebhook{{Name: "gate", Type: c.gate, URL: t.gate(&open)}}
			}
			t.leaveAll([]*flaggerApp{a})
			record, err := history.Record(context.Background(), t.dynamic, t.ns, clock.RealClock{})
			t.must(err)
			o := t.operate()
			t.until("the takeover", func(c *v1beta1.Canary) bool { return c.Status.Rollout != nil && c.Status.Rollout.Target != nil })
			if c.gate != "" {
				watched()
				t.until("the same phase", func(c *v1beta1.Canary) bool { return c.Status.Phase == a.phase })
				open.Store(true)
			}
			t.settled(c.end)
			t.expectStory(c.tells)
			t.expectPrimaryWritten(record, c.primary)
			if p, w := t.weights("istio"); p != 100 || w != 0 {
				t.Errorf("routes end at %d/%d", p, w)
			}
			if n, _ := t.replicas("podinfo"); n != 0 {
				t.Errorf("the target keeps %d replicas", n)
			}
			t.must(o.stop())
			t.expectIdleStart()
		})
	}
}

// expectIdleStart starts an operator whose Canary is at rest: it writes nothing.
func (t *team) expectIdleStart() {
	t.Helper()
	user, began := "again-"+t.ns, time.Now()
	o := t.operate("-kubeconfig", t.kubeconfigAs(user))
	t.untilTold(o, 1)
	watched()
	if writes := t.writesOf(user, began, ""); len(writes) > 0 {
		t.Errorf("the start of another operator writes\n%s", strings.Join(writes, "\n"))
	}
}

// TestTakeoverOfAFailedPromotion takes over a Canary whose primary did not come up with what Flagger promoted: the canary
// serves, and goes on serving until the next revision is promoted.
func TestTakeoverOfAFailedPromotion(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	a := &flaggerApp{
		name: "podinfo", phase: v1beta1.CanaryPhaseFailed, provider: "istio", pods: "[./podinfo, --port=9898, --level=info]",
		replicas: 1, canary: 1, weight: 100, interval: "1s", status: func(s *v1beta1.CanaryStatus) { s.CanaryWeight = 100 },
	}
	t.leaveAll([]*flaggerApp{a})
	quotas := t.kube.CoreV1().ResourceQuotas(t.ns)
	_, err := quotas.Create(t.Context(), &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "full"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("2")}},
	}, metav1.CreateOptions{})
	t.must(err)
	target, err := t.kube.AppsV1().Deployments(t.ns).Get(t.Context(), "podinfo", metav1.GetOptions{})
	t.must(err)
	t.must(t.leavePromoted(t.Context(), a, target))

	user, began := "takeover-"+t.ns, time.Now()
	t.operate("-kubeconfig", t.kubeconfigAs(user))
	t.until("the takeover", func(c *v1beta1.Canary) bool { return c.Status.Rollout != nil && c.Status.Rollout.Target != nil })
	watched()
	for _, w := range t.writesOf(user, began, "") {
		if !strings.Contains(w, " canaries/status ") && !strings.Contains(w, " events ") {
			t.Errorf("the takeover writes %s", w)
		}
	}
	if p, w := t.weights("istio"); p != 0 || w != 100 {
		t.Errorf("routes are at %d/%d", p, w)
	}
	if n, _ := t.replicas("podinfo"); n != 1 {
		t.Errorf("the canary has %d replicas", n)
	}

	t.must(quotas.Delete(t.Context(), "full", metav1.DeleteOptions{}))
	t.changeImage("podinfo", v3)
	t.settled(v1beta1.CanaryPhaseSucceeded)
	if p, w := t.weights("istio"); p != 100 || w != 0 || !t.primaryRuns(v3) {
		t.Errorf("routes end at %d/%d, and that the primary runs %s is %t", p, w, v3, t.primaryRuns(v3))
	}
}

// gate is the URL of a webhook that refuses until it is open. Pods reach it, too.
func (t *team) gate(open *atomic.Bool) string {
	return t.reachable(func(w http.ResponseWriter, _ *http.Request) {
		if !open.Load() {
			w.WriteHeader(http.StatusForbidden)
		}
	})
}

// reachable is the URL of a server that pods reach.
func (t *team) reachable(handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	listener, err := net.Listen("tcp", nodeAddress+":0")
	t.must(err)
	t.must(server.Listener.Close())
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

// expectStory checks all events, each by a part of it.
func (t *team) expectStory(parts []string) {
	t.Helper()
	events := story(t.events())
	same := len(events) == len(parts)
	for i := range min(len(events), len(parts)) {
		same = same && strings.Contains(events[i], parts[i])
	}
	if !same {
		t.Errorf("events\n%s\nwant\n%s", strings.Join(events, "\n"), strings.Join(parts, "\n"))
	}
}

// expectPrimaryWritten checks how often the pods of the primary were made anew, and that it was for a promotion.
func (t *team) expectPrimaryWritten(record *history.Recorder, want int) {
	t.Helper()
	states, moments := t.recorded(record, "configmap/podinfo-settings", "secret/podinfo-token")
	got, id := 0, ""
	for i := range states {
		s := &states[i]
		if s.Object.GetKind() != "Deployment" || s.Object.GetName() != "podinfo-primary" {
			continue
		}
		now, _, _ := unstructured.NestedString(s.Object.Object, "spec", "template", "metadata", "annotations", "flagger-id")
		if id != "" && now != id {
			got++
		}
		id = now
	}
	if got != want {
		t.Errorf("the pods of the primary were made anew %d times, want %d", got, want)
	}
	for i := 1; i < len(moments); i++ {
		// The record begins with what Flagger wrote.
		m := &moments[i]
		ours := m.Status.Target.Template != ""
		if ours && !m.Primary.Equal(moments[i-1].Primary) && m.Status.Phase != v1beta1.CanaryPhasePromoting {
			t.Errorf("the primary is written in phase %s", m.Status.Phase)
		}
	}
}
