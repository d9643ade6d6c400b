package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/convert"
)

// canarySide is the workload beside podinfo that its user made for the next version, with a Service of its own.
func canarySide() string {
	parts := strings.Split(podinfo(1), "\n---\n")[:2]
	return strings.NewReplacer("name: podinfo,", "name: podinfo-canary,", "name: podinfo}", "name: podinfo-canary}", "app: podinfo}", "app: podinfo-canary}").
		Replace(strings.Join(parts, "\n---\n"))
}

// convertedRollout is the Canary that the Rollout of 2018 is equivalent to, at the pace and with a metric of the testbed. The
// VirtualService of the user comes with it.
func (t *team) convertedRollout() (route string, c *v1beta1.Canary) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(os.Getenv("ROOT"), "pkg/convert/testdata/steerer.yaml"))
	t.must(err)
	route, _, _ = strings.Cut(string(raw), "\n---\n")
	converted, err := convert.Convert(raw, convert.Options{Name: "steerer.yaml"})
	t.must(err)
	c = &v1beta1.Canary{}
	t.must(yaml.UnmarshalStrict(converted.Canaries, c))
	c.Namespace = t.ns
	c.Spec.Analysis.Interval, c.Spec.Analysis.Metrics = "1s", canary().Spec.Analysis.Metrics
	return route, c
}

// ownRoute reads the VirtualService of the user: its weights, and as JSON all else but what every write changes.
func (t *team) ownRoute() (weights []int64, bare string) {
	t.Helper()
	u, err := t.dynamic.Resource(virtualServices).Namespace(t.ns).Get(t.Context(), "podinfo", metav1.GetOptions{})
	t.must(err)
	rules, _, err := unstructured.NestedSlice(u.Object, "spec", "http")
	t.must(err)
	for _, rule := range rules {
		for _, item := range rule.(map[string]any)["route"].([]any) {
			weight, _, _ := unstructured.NestedInt64(item.(map[string]any), "weight")
			weights = append(weights, weight)
			delete(item.(map[string]any), "weight")
		}
	}
	raw, err := json.Marshal([]any{u.GetName(), u.GetLabels(), u.GetOwnerReferences(), u.Object["spec"].(map[string]any)["hosts"], rules})
	t.must(err)
	return weights, string(raw)
}

// The first form of a Canary, converted, is led through a rollout on workloads, Services and a route that are all its user's, and
// all of them are there when the Canary is gone.
func TestConvertedRollout(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(podinfo(2) + "---\n" + canarySide())
	route, c := t.convertedRollout()
	t.apply(route)
	_, bare := t.ownRoute()
	deployment, err := t.kube.AppsV1().Deployments(t.ns).Get(t.Context(), "podinfo", metav1.GetOptions{})
	t.must(err)
	o := t.operate()
	t.create(c)
	t.settled(v1beta1.CanaryPhaseInitialized)
	if replicas, _ := t.replicas("podinfo-canary"); replicas != 0 {
		t.Errorf("the canary has %d pods after the initialization, want none", replicas)
	}

	t.shipTo("podinfo-canary", v2)
	seen := map[int64]bool{}
	t.until("the first steps", func(c *v1beta1.Canary) bool {
		if weights, _ := t.ownRoute(); weights[0]+weights[1] == 100 {
			seen[weights[1]] = true
		}
		return c.Status.CanaryWeight >= 30
	})
	// A new process goes on where the last one was killed.
	o.kill()
	t.operate()
	t.settled(v1beta1.CanaryPhaseSucceeded)
	if len(seen) < 2 {
		t.Errorf("the route was seen with the shares %v, want several", seen)
	}
	t.expectOwn(deployment.Spec.Selector, bare)

	t.deleteWithGarbage()
	t.expectOwn(deployment.Spec.Selector, bare)
}

// expectOwn checks that the user's objects are there, and are what they were but for the promoted template and the weights.
func (t *team) expectOwn(selector *metav1.LabelSelector, bare string) {
	t.Helper()
	d, err := t.kube.AppsV1().Deployments(t.ns).Get(t.Context(), "podinfo", metav1.GetOptions{})
	t.must(err)
	if diff := cmp.Diff(selector, d.Spec.Selector); diff != "" || d.Spec.Template.Labels["app"] != "podinfo" || len(d.OwnerReferences) > 0 {
		t.Errorf("selector (-was +is) %s, labels of the pods %v, owners %v", diff, d.Spec.Template.Labels, d.OwnerReferences)
	}
	if image := d.Spec.Template.Spec.Containers[0].Image; image != v2 || *d.Spec.Replicas != 2 {
		t.Errorf("the primary has %d pods of %s, want 2 of %s", *d.Spec.Replicas, image, v2)
	}
	weights, now := t.ownRoute()
	if !slices.Equal(weights, []int64{100, 0}) {
		t.Errorf("weights %v, want 100 and 0", weights)
	}
	if diff := cmp.Diff(bare, now); diff != "" {
		t.Errorf("more than weights was changed in the route (-want +got):\n%s", diff)
	}
	list, err := t.kube.AppsV1().Deployments(t.ns).List(t.Context(), metav1.ListOptions{})
	t.must(err)
	services, err := t.kube.CoreV1().Services(t.ns).List(t.Context(), metav1.ListOptions{})
	t.must(err)
	var names []string
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	for i := range services.Items {
		names = append(names, services.Items[i].Name)
	}
	if want := []string{"podinfo", "podinfo-canary", "podinfo", "podinfo-canary"}; !slices.Equal(names, want) {
		t.Errorf("Deployments and Services %v, want %v", names, want)
	}
}

// deleteWithGarbage deletes the Canary and waits until the garbage collector has been there: what a Canary really owns, the revisions
// that it promoted, is gone.
func (t *team) deleteWithGarbage() {
	t.Helper()
	revisions := schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "controllerrevisions"}
	list, err := t.dynamic.Resource(revisions).Namespace(t.ns).List(t.Context(), metav1.ListOptions{LabelSelector: "flagger.app/canary-uid"})
	t.must(err)
	if len(list.Items) == 0 {
		t.Fatal("no promoted revision is stored")
	}
	t.deleteCanary()
	for i := range list.Items {
		t.gone(revisions, list.Items[i].GetName())
	}
}

// TestDataPlaneOwnPrimary leads the converted Rollout through istiod and Envoy: requests are shared out by the route of the user at
// each step, judged by the built-in metrics that the Rollout asked for, and none is lost until the Canary is gone again.
func TestDataPlaneOwnPrimary(tt *testing.T) {
	needsBed(tt)
	if plane := planeUnderTest(tt); plane == nil || plane.provider != "istio" {
		tt.Skip("run make e2e-istio")
	}
	tt.Parallel()
	l := newLoaded(tt, 2)
	l.apply(canarySide())
	l.available("podinfo-canary")
	route, c := l.convertedRollout()
	l.plane.service = l.atGateway(route)
	l.begin()
	l.operates()
	l.inSteps(30, 60)(c)
	c.Spec.RevertOnDeletion = true
	l.create(c)
	l.settled(v1beta1.CanaryPhaseInitialized)
	_, bare := l.ownRoute()
	l.only(versionOf(v1), nil)
	l.roll(v1beta1.CanaryPhaseSucceeded, func() { l.shipTo("podinfo-canary", v2) }, func() {
		l.upTo(30)
		l.weighs(30)
		l.shares(versionOf(v2), 0, 30)
		l.edit(builtIn)
		l.upTo(100)
		l.set(v1beta1.ConfirmPromotionHook, true)
	})
	l.only(versionOf(v2), nil)
	l.deleteWithGarbage()
	l.only(versionOf(v2), nil)
	if _, now := l.ownRoute(); now != bare {
		l.Errorf("more than weights was changed in the route:\n%s\n%s", bare, now)
	}
	l.load.end(l)
}

// atGateway is a VirtualService for the host of the team, whose answers say that they came by it.
func (l *loaded) atGateway(route string) string {
	l.Helper()
	u := &unstructured.Unstructured{}
	l.must(yaml.Unmarshal([]byte(route), &u.Object))
	c := l.canary()
	spec := u.Object["spec"].(map[string]any)
	spec["hosts"], spec["gateways"] = c.Spec.Service.Hosts, c.Spec.Service.Gateways
	rule := spec["http"].([]any)[0].(map[string]any)
	rule["headers"] = map[string]any{"response": map[string]any{"set": map[string]any{"X-Route": "service"}}}
	raw, err := yaml.Marshal(u.Object)
	l.must(err)
	return string(raw)
}

// A primary of the user's that could not work is refused by the API server, with the field.
func TestOwnPrimaryIsCheckedAtAdmission(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	for name, test := range map[string]struct {
		edit func(*v1beta1.CanarySpec)
		want string
	}{
		"itself":           {func(s *v1beta1.CanarySpec) { s.PrimaryRef.Name = s.TargetRef.Name }, "spec.primaryRef"},
		"of another kind":  {func(s *v1beta1.CanarySpec) { s.PrimaryRef.Kind = "DaemonSet" }, "spec.primaryRef"},
		"without a route":  {func(s *v1beta1.CanarySpec) { s.RouteRef = nil }, "spec.routeRef"},
		"with no primary":  {func(s *v1beta1.CanarySpec) { s.PrimaryRef = nil }, "spec.service.primaryName"},
		"another mesh":     {func(s *v1beta1.CanarySpec) { s.Provider = "contour" }, "spec.routeRef"},
		"another route":    {func(s *v1beta1.CanarySpec) { s.RouteRef.Kind = "HTTPRoute" }, "spec.routeRef"},
		"as it is all set": {func(*v1beta1.CanarySpec) {}, ""},
	} {
		_, c := t.convertedRollout()
		c.Name = strings.ReplaceAll(name, " ", "-")
		test.edit(&c.Spec)
		_, err := t.flagger.FlaggerV1beta1().Canaries(t.ns).Create(t.Context(), c, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if test.want == "" && err != nil || test.want != "" && !strings.Contains(fmt.Sprint(err), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}
