package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// place is where in the lives of Canaries a kind of call fails.
type place struct{ provider, stage string }

// faultPlan says where each kind of call fails that an operator makes in the lives of its Canaries. The kinds are spread over
// two providers and all stages: a Canary whose passes fail again and again is left alone for ever longer.
func faultPlan() map[string]place {
	const mesh, plain = "istio", "kubernetes"
	return map[string]place{
		"create configmaps":               {mesh, "bootstrap"},
		"create deployments":              {mesh, "bootstrap"},
		"create virtualservices":          {mesh, "bootstrap"},
		"create destinationrules":         {mesh, "bootstrap"},
		"get deployments":                 {mesh, "promotion"},
		"create controllerrevisions":      {mesh, "promotion"},
		"patch virtualservices":           {mesh, "promotion"},
		"patch deployments":               {mesh, "rollback"},
		"create events":                   {mesh, "rollback"},
		"update configmaps":               {mesh, "config"},
		"get controllerrevisions":         {plain, "bootstrap"},
		"list controllerrevisions":        {mesh, "config"},
		"patch horizontalpodautoscalers":  {mesh, "scale"},
		"delete virtualservices":          {mesh, "deletion"},
		"delete destinationrules":         {mesh, "deletion"},
		"patch services":                  {mesh, "deletion"},
		"create services":                 {plain, "bootstrap"},
		"create secrets":                  {plain, "bootstrap"},
		"create horizontalpodautoscalers": {plain, "bootstrap"},
		"get configmaps":                  {mesh, "config"},
		"update deployments":              {plain, "promotion"},
		"update canaries/status":          {plain, "rollback"},
		"get horizontalpodautoscalers":    {plain, "rollback"},
		"update secrets":                  {plain, "config"},
		"get secrets":                     {plain, "config"},
		"get scaledobjects":               {plain, "scale"},
		"patch canaries":                  {plain, "deletion"},
	}
}

// fillsCaches is whether a call is one of those that fill the caches. They belong to no stage: with one provider, all lists and
// watches fail once, with the other one what finds out whether a resource is there.
func fillsCaches(c call) (provider string, does bool) {
	switch {
	case c.resource == "discovery":
		return "kubernetes", true
	case c.verb == "watch", c.verb == "list" && c.resource != "controllerrevisions":
		return "istio", true
	}
	return "", false
}

// life is that of a Canary whose operator reaches the API server through a proxy.
type life struct {
	*team
	provider string
	// fault is how calls fail, empty for never.
	fault fault
	proxy *proxy
	// shards is into how many parts its operator divides the Canaries, 0 for one that has all of them.
	shards int

	mu     awaited
	stage  string
	failed map[string]bool
	// stages are those in which each kind of call occurred.
	stages map[string][]string

	// end is what is left, told what users were told. They are complete when the life is over.
	end  map[string]any
	told []string
	over bool
}

// enter begins a stage when all calls of the one before have come that are planned there: some come when a Canary has settled already.
func (l *life) enter(stage string) {
	l.Helper()
	var missing []string
	if !l.mu.until(func() bool {
		if missing = l.missing(); len(missing) == 0 {
			l.stage = stage
		}
		return len(missing) == 0
	}) {
		l.Fatalf("%s: calls that did not come before the %s: %q", l.provider, stage, missing)
	}
}

// missing are the kinds of calls that are planned in this stage and have not come yet.
func (l *life) missing() (kinds []string) {
	for kind, p := range faultPlan() {
		if p == (place{l.provider, l.stage}) && !slices.Contains(l.stages[kind], l.stage) {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// choose implements the plan.
func (l *life) choose(c call) (chosen fault) {
	l.mu.change(func() { chosen = l.note(c) })
	return chosen
}

// note notes a call, and returns how it fails.
func (l *life) note(c call) fault {
	kind := c.kind()
	provider, early := fillsCaches(c)
	planned := early && provider == l.provider
	if early {
		kind = c.String()
	} else {
		planned = faultPlan()[kind] == place{l.provider, l.stage}
		l.stages[kind] = append(l.stages[kind], l.stage)
	}
	if l.fault == "" || !planned || l.failed[kind] {
		return ""
	}
	l.failed[kind] = true
	return l.fault
}

// lifeOf is a Canary with all that its operator writes: configs, an autoscaler, a finalizer and, in a mesh, routes.
func lifeOf(c *v1beta1.Canary, provider string) {
	c.Spec.Provider = provider
	c.Spec.RevertOnDeletion = true
	c.Spec.AutoscalerRef = &v1beta1.AutoscalerReference{APIVersion: "autoscaling/v2", Kind: "HorizontalPodAutoscaler", Name: "podinfo"}
	a := c.Spec.Analysis
	a.StepWeight, a.MaxWeight, a.Threshold = 50, 50, 1
	if provider == "kubernetes" {
		a.StepWeight, a.MaxWeight, a.Iterations = 0, 0, 1
	}
}

// live takes a Canary from its creation to its deletion.
func (l *life) live() {
	l.Helper()
	l.apply(settings)
	l.apply(strings.Replace(scaler, "minReplicas: 2", "minReplicas: 1", 1))
	l.apply(withConfigs(podinfo(1)))
	l.available("podinfo")
	l.create(canary(func(c *v1beta1.Canary) { lifeOf(c, l.provider) }))
	l.enter("bootstrap")
	args := []string{"-kubeconfig", l.proxy.kubeconfig(l)}
	if l.fault == held {
		args = append(args, "-kubeconfig-timeout", "8s")
	}
	if l.shards > 0 {
		args = append(args, "-shards", strconv.Itoa(l.shards))
	}
	l.operate(args...)
	l.settled(v1beta1.CanaryPhaseInitialized)
	l.enter("promotion")
	l.ship(v2)
	l.settled(v1beta1.CanaryPhaseSucceeded)
	l.enter("rollback")
	l.edit(func(s *v1beta1.CanarySpec) { s.Analysis.Metrics[0].TemplateVariables["value"] = "50" })
	l.ship(v3)
	l.settled(v1beta1.CanaryPhaseFailed)
	l.edit(func(s *v1beta1.CanarySpec) { s.Analysis.Metrics[0].TemplateVariables["value"] = "100" })
	l.enter("config")
	if l.provider == "istio" {
		l.patch(coreResource("configmaps"), "settings", `{"data":{"PODINFO_UI_MESSAGE":"two"}}`)
	} else {
		l.patch(coreResource("secrets"), "token", `{"stringData":{"key":"second"}}`)
	}
	l.settled(v1beta1.CanaryPhaseSucceeded)
	l.enter("scale")
	l.patch(scalers, "podinfo", `{"spec":{"maxReplicas":5}}`)
	l.untilObject(scalers, "podinfo-primary", func(u *unstructured.Unstructured) bool {
		highest, _, _ := unstructured.NestedInt64(u.Object, "spec", "maxReplicas")
		return highest == 5
	})
	l.until("health", func(c *v1beta1.Canary) bool {
		h := healthy(c)
		return h != nil && h.Status == corev1.ConditionTrue && len(c.Status.Rollout.Outbox) == 0
	})
	l.record()
	l.enter("deletion")
	l.deleteCanary()
	l.gone(v1beta1.SchemeGroupVersion.WithResource("canaries"), "podinfo")
	l.recordRemains()
}

func (t *team) patch(resource schema.GroupVersionResource, name, patch string) {
	t.Helper()
	_, err := t.dynamic.Resource(resource).Namespace(t.ns).Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	t.must(err)
}

// record notes what there is before the deletion.
func (l *life) record() {
	l.Helper()
	c, err := l.flagger.FlaggerV1beta1().Canaries(l.ns).Get(l.Context(), "podinfo", metav1.GetOptions{})
	l.must(err)
	l.end["status"] = []any{c.Status.Phase, c.Status.CanaryWeight, c.Status.LastAppliedSpec, c.Status.LastPromotedSpec, *c.Status.TrackedConfigs}
	l.recordObject(deployments, "podinfo", "spec", "replicas")
	l.recordObject(deployments, "podinfo-primary", "spec", "template", "spec")
	l.recordObject(scalers, "podinfo-primary", "spec")
	l.recordObject(coreResource("configmaps"), "settings-primary", "data")
	l.recordObject(coreResource("secrets"), "token-primary", "data")
	for _, name := range []string{"podinfo", "podinfo-canary", "podinfo-primary"} {
		l.recordService(name)
	}
	if l.provider == "istio" {
		l.recordObject(virtualServices, "podinfo", "spec")
	}
	revisions, err := l.kube.AppsV1().ControllerRevisions(l.ns).List(l.Context(), metav1.ListOptions{LabelSelector: "flagger.app/canary-uid=" + string(c.UID)})
	l.must(err)
	numbers := map[int64]int{}
	for i := range revisions.Items {
		numbers[revisions.Items[i].Revision]++
	}
	l.end["stored revisions"] = numbers
}

func (l *life) recordService(name string) {
	l.Helper()
	l.recordObject(coreResource("services"), name, "spec", "selector")
	l.recordObject(coreResource("services"), name, "spec", "ports")
}

func (l *life) recordObject(resource schema.GroupVersionResource, name string, path ...string) {
	l.Helper()
	u, err := l.dynamic.Resource(resource).Namespace(l.ns).Get(l.Context(), name, metav1.GetOptions{})
	l.must(err)
	value, _, err := unstructured.NestedFieldNoCopy(u.Object, path...)
	l.must(err)
	raw, err := json.Marshal(value)
	l.must(err)
	l.end[fmt.Sprintf("%s %s %s %s", l.stage, resource.Resource, name, strings.Join(path, "."))] = strings.ReplaceAll(string(raw), l.ns, "NAMESPACE")
}

// recordRemains notes what a deletion leaves, and what users were told.
func (l *life) recordRemains() {
	l.Helper()
	l.recordObject(deployments, "podinfo", "spec", "replicas")
	l.recordObject(deployments, "podinfo", "spec", "template", "spec")
	l.recordService("podinfo")
	l.gone(virtualServices, "podinfo")
	for _, event := range story(l.events()) {
		l.told = append(l.told, strings.ReplaceAll(event, l.ns, "NAMESPACE"))
	}
	l.over = true
}

// TestC09_EveryKindOfCallFailsOnce lets every kind of call to the API server fail once, in every way in which calls fail, in the
// lives of Canaries. The end is the one of a life without faults, users are told the same once, and the API server is not asked
// much more.
func TestC09_EveryKindOfCallFailsOnce(tt *testing.T) {
	tt.Parallel()
	// The lives that wait for answers are the longest.
	eachKindFails(tt, 0, "", held, conflict, unsent, unanswered, overloaded, broken, unknown, forbidden)
}

// TestC09_EveryKindOfCallFailsOnceWithShards does the same with operators that work on the Canaries of their shards.
func TestC09_EveryKindOfCallFailsOnceWithShards(tt *testing.T) {
	tt.Parallel()
	eachKindFails(tt, 3, "", conflict, unanswered, forbidden)
}

// eachKindFails lives lives with faults of each kind, of which the first is none.
func eachKindFails(tt *testing.T, shards int, faults ...fault) {
	var lives []*life
	var wait sync.WaitGroup
	for _, f := range faults {
		for _, provider := range []string{"istio", "kubernetes"} {
			l := &life{
				provider: provider, fault: f, shards: shards,
				failed: map[string]bool{}, stages: map[string][]string{}, end: map[string]any{},
			}
			lives = append(lives, l)
			wait.Go(func() {
				tt.Run(fmt.Sprintf("%s, %s", provider, f), func(tt *testing.T) {
					l.team = newTeam(tt)
					l.proxy = l.team.proxy()
					l.proxy.choose = l.choose
					l.live()
				})
			})
		}
	}
	wait.Wait()
	calm := map[string]*life{"istio": lives[0], "kubernetes": lives[1]}
	if !lives[0].over || !lives[1].over {
		return
	}
	complete(tt, calm)
	for _, l := range lives[2:] {
		if !l.over {
			continue
		}
		tt.Run(fmt.Sprintf("%s, %s: the end", l.provider, l.fault), func(tt *testing.T) { l.compare(tt, calm[l.provider]) })
	}
}

// complete demands that the plan has every kind of call that occurs, where it occurs.
func complete(tt *testing.T, calm map[string]*life) {
	plan := faultPlan()
	for _, provider := range slices.Sorted(maps.Keys(calm)) {
		l := calm[provider]
		for _, kind := range slices.Sorted(maps.Keys(l.stages)) {
			// Shards need a lease. What becomes of a process that can't write it is the matter of tests of its own.
			lease := l.shards > 0 && strings.HasSuffix(kind, " leases")
			if _, ok := plan[kind]; !ok && !lease && !strings.HasPrefix(kind, "check ") {
				tt.Errorf("%s: nobody planned a fault of %q, which occurs in %q", provider, kind, slices.Compact(l.stages[kind]))
			}
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(plan)) {
		if p := plan[kind]; !slices.Contains(calm[p.provider].stages[kind], p.stage) {
			tt.Errorf("%q does not occur in the %s with %s, only in %q and %q", kind, p.stage, p.provider,
				slices.Compact(calm["istio"].stages[kind]), slices.Compact(calm["kubernetes"].stages[kind]))
		}
	}
}

// compare demands that a life with faults came to the end of a calm one, in few more calls.
func (l *life) compare(tt *testing.T, calm *life) {
	if diff := cmp.Diff(calm.end, l.end); diff != "" {
		tt.Errorf("the end differs (-calm +faults):\n%s", diff)
	}
	for kind, p := range faultPlan() {
		if p.provider == l.provider && !l.failed[kind] {
			tt.Errorf("%q never failed", kind)
		}
	}
	l.compareStories(tt, calm)
	l.compareCalls(tt, calm)
}

// compareStories demands that users hear what they hear without faults, in that order, and of each fault at most once.
func (l *life) compareStories(tt *testing.T, calm *life) {
	var same, more []string
	for _, message := range l.told {
		switch {
		case slices.Contains(calm.told, message):
			same = append(same, message)
		case strings.Contains(message, " the resource "):
			// A list and a watch fail with the same words.
		case !strings.HasSuffix(message, "not ready: waiting for rollout to finish: scaled to zero"):
			more = append(more, message)
		}
	}
	if diff := cmp.Diff(calm.told, same); diff != "" {
		tt.Errorf("messages (-calm +faults):\n%s", diff)
	}
	slices.Sort(more)
	if once := slices.Compact(slices.Clone(more)); len(once) != len(more) {
		tt.Errorf("told more than once: %q", more)
	}
	tt.Logf("about the faults: %q", more)
}

// perName adds up the calls about objects whose names differ from life to life.
func perName(calls map[call]int) map[call]int {
	sum := map[call]int{}
	for c, n := range calls {
		if c.resource == "leases" {
			// It is written as long as the process lives.
			continue
		}
		if c.resource == "events" || c.resource == "controllerrevisions" {
			c.name = ""
		}
		sum[c] += n
	}
	return sum
}

// compareCalls demands that a fault costs its repetition, and of the status what it takes to tell of it.
func (l *life) compareCalls(tt *testing.T, calm *life) {
	got, want := perName(l.proxy.calls()), perName(calm.proxy.calls())
	total, usual := 0, 0
	for _, n := range want {
		usual += n
	}
	for c, n := range got {
		total += n
		limit := want[c] + 2
		if c.resource == "canaries/status" || c.resource == "events" {
			limit = want[c] + 3*len(l.failed)
		}
		if c.writes() && n > limit {
			tt.Errorf("%s: %d times, and %d times without faults", c, n, want[c])
		}
	}
	if total > usual+6*len(l.failed)+20 {
		tt.Errorf("%d calls, and %d without faults", total, usual)
	}
	tt.Logf("%d faults, %d calls, and %d without", len(l.failed), total, usual)
}
