package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	watchtools "k8s.io/client-go/tools/watch"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

const parkedKey = "flagger.app/scale-to-zero"

// daemon is the application as a DaemonSet.
var daemon = strings.NewReplacer(
	"kind: Deployment", "kind: DaemonSet",
	"  replicas: 1\n", "",
	"  progressDeadlineSeconds: 60\n", "",
	"strategy: {rollingUpdate: {maxUnavailable: 0}}", "updateStrategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}",
	"terminationGracePeriodSeconds: 10", "nodeSelector: {kubernetes.io/os: linux}\n      terminationGracePeriodSeconds: 10",
).Replace(podinfo(1))

func daemonCanary(edits ...func(*v1beta1.Canary)) *v1beta1.Canary {
	return canary(append(edits, func(c *v1beta1.Canary) { c.Spec.TargetRef.Kind = "DaemonSet" })...)
}

func (t *team) daemonSet(name string) *appsv1.DaemonSet {
	t.Helper()
	d, err := t.kube.AppsV1().DaemonSets(t.ns).Get(t.Context(), name, metav1.GetOptions{})
	t.must(err)
	return d
}

func (t *team) shipDaemon(image string) {
	t.Helper()
	patch := fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":"podinfod","image":%q}]}}}}`, image)
	_, err := t.kube.AppsV1().DaemonSets(t.ns).Patch(t.Context(), "podinfo", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	t.must(err)
}

// expectDaemons checks who has which image, and that only the primary has pods.
func (t *team) expectDaemons(target, primary string) {
	t.Helper()
	want := map[string]string{"kubernetes.io/os": "linux"}
	p := t.daemonSet("podinfo-primary")
	if diff := cmp.Diff(want, p.Spec.Template.Spec.NodeSelector); diff != "" || p.Status.NumberAvailable == 0 {
		t.Errorf("primary has %d pods and the node selector (-want +got):\n%s", p.Status.NumberAvailable, diff)
	}
	want[parkedKey] = "true"
	d := t.daemonSet("podinfo")
	if diff := cmp.Diff(want, d.Spec.Template.Spec.NodeSelector); diff != "" {
		t.Errorf("node selector of the target (-want +got):\n%s", diff)
	}
	images := [2]string{d.Spec.Template.Spec.Containers[0].Image, p.Spec.Template.Spec.Containers[0].Image}
	if images != [2]string{target, primary} {
		t.Errorf("target and primary run %v, want %s and %s", images, target, primary)
	}
}

func TestDaemonSet(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(daemon)
	t.operate()
	t.create(daemonCanary())
	t.settled(v1beta1.CanaryPhaseInitialized)
	t.expectDaemons(v1, v1)

	t.shipDaemon(v2)
	t.until("weight 40", func(c *v1beta1.Canary) bool { return c.Status.CanaryWeight == 40 })
	if d := t.daemonSet("podinfo"); d.Spec.Template.Spec.NodeSelector[parkedKey] != "" || d.Status.NumberAvailable == 0 {
		t.Errorf("the canary gets traffic with %d pods", d.Status.NumberAvailable)
	}
	t.settled(v1beta1.CanaryPhaseSucceeded)
	t.expectDaemons(v2, v2)

	// the deadline counts from the start of the revision.
	t.edit(func(s *v1beta1.CanarySpec) { s.ProgressDeadlineSeconds = new(int32(3)) })
	t.shipDaemon("example.com/nothing:here")
	t.settled(v1beta1.CanaryPhaseFailed)
	t.expectDaemons("example.com/nothing:here", v2)
	ns := "." + t.ns
	want := append(promoted(ns),
		"N New revision detected! Scaling up podinfo"+ns,
		"W canary damonset podinfo"+ns+" not ready with retryable false: exceeded its progressDeadlineSeconds: 3",
		"W Rolling back podinfo"+ns+` progress deadline exceeded daemonset "podinfo" exceeded its progressDeadlineSeconds: 3`,
		"W Canary failed! Scaling down podinfo"+ns,
	)
	if diff := cmp.Diff(want, story(t.events())); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// promoted is what is told of a Canary from its start to its first promotion, in steps of 20 up to 60.
func promoted(ns string) []string {
	return []string{
		"N all the metrics providers are available!",
		"N Initialization done! podinfo" + ns,
		"N New revision detected! Scaling up podinfo" + ns,
		"N Starting canary analysis for podinfo" + ns,
		"N Advance podinfo" + ns + " canary weight 20",
		"N Advance podinfo" + ns + " canary weight 40",
		"N Advance podinfo" + ns + " canary weight 60",
		"N Copying podinfo" + ns + " template spec to podinfo-primary" + ns,
		"N Routing all traffic to primary",
		"N Promotion completed! Scaling down podinfo" + ns,
	}
}

// a primary that somebody deletes comes back with pods, at the revision that was promoted.
func TestDaemonSetPrimaryDeleted(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(daemon)
	t.operate()
	t.create(daemonCanary())
	t.settled(v1beta1.CanaryPhaseInitialized)
	uid := t.daemonSet("podinfo-primary").UID
	t.edit(func(s *v1beta1.CanarySpec) { s.Analysis.Metrics[0].TemplateVariables["value"] = "50" })
	t.shipDaemon(v2)
	t.settled(v1beta1.CanaryPhaseFailed)
	t.must(t.kube.AppsV1().DaemonSets(t.ns).Delete(t.Context(), "podinfo-primary", metav1.DeleteOptions{}))
	t.wait(appsv1.SchemeGroupVersion.WithResource("daemonsets"), "podinfo-primary", func(u *unstructured.Unstructured) bool {
		available, _, _ := unstructured.NestedInt64(u.Object, "status", "numberAvailable")
		return u.GetUID() != uid && available > 0
	})
	t.expectDaemons(v2, v1)
}

// wait watches an object until it is as wanted.
func (t *team) wait(resource schema.GroupVersionResource, name string, done func(*unstructured.Unstructured) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	lw := watchOf(ctx, t.dynamic.Resource(resource).Namespace(t.ns), name)
	_, err := watchtools.UntilWithSync(ctx, lw, &unstructured.Unstructured{}, nil, func(e watch.Event) (bool, error) {
		u, ok := e.Object.(*unstructured.Unstructured)
		return ok && e.Type != watch.Deleted && done(u), nil
	})
	if err != nil {
		t.Fatalf("waiting for %s %s: %v\n%s", resource.Resource, name, err, strings.Join(t.events(), "\n"))
	}
}

// colors is the Service of a user, whose selector says which version of an application it leads to.
const colors = `
apiVersion: v1
kind: Service
metadata: {name: podinfo, labels: {team: a}, annotations: {example.com/owner: a}}
spec:
  type: NodePort
  selector: {app: podinfo, color: blue}
  ports: [{name: http, port: 9898, targetPort: http}, {name: grpc, port: 9999}]
---
` + constant

const constant = `
apiVersion: flagger.app/v1beta1
kind: MetricTemplate
metadata: {name: constant}
spec:
  provider: {type: prometheus, address: http://prometheus.monitoring:9090}
  query: vector({{ variables.value }})
`

func serviceCanary() *v1beta1.Canary {
	return canary(func(c *v1beta1.Canary) {
		c.Spec.TargetRef = v1beta1.LocalObjectReference{APIVersion: "v1", Kind: "Service", Name: "podinfo"}
	})
}

func (t *team) service(name string) *corev1.Service {
	t.Helper()
	s, err := t.kube.CoreV1().Services(t.ns).Get(t.Context(), name, metav1.GetOptions{})
	t.must(err)
	return s
}

func (t *team) paint(color string) {
	t.Helper()
	patch := fmt.Sprintf(`{"spec":{"selector":{"color":%q}}}`, color)
	_, err := t.kube.CoreV1().Services(t.ns).Patch(t.Context(), "podinfo", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	t.must(err)
}

// the copies of a Service are accepted, belong to the Canary, and differ by nothing but what can't be shared.
func TestService(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(colors)
	apex := t.service("podinfo")
	t.operate()
	t.create(serviceCanary())
	t.settled(v1beta1.CanaryPhaseInitialized)
	t.expectCopies("blue", "blue")
	if diff := cmp.Diff(apex, t.service("podinfo")); diff != "" {
		t.Errorf("the target was changed (-before +after):\n%s", diff)
	}

	t.paint("green")
	t.until("weight 40", func(c *v1beta1.Canary) bool { return c.Status.CanaryWeight == 40 })
	t.expectCopies("blue", "green")
	before := t.service("podinfo-canary").ResourceVersion
	t.settled(v1beta1.CanaryPhaseSucceeded)
	t.expectCopies("green", "green")
	if after := t.service("podinfo-canary").ResourceVersion; after != before {
		t.Error("the canary copy was written although its target did not change")
	}
	if p, c := t.weights("istio"); p != 100 || c != 0 {
		t.Errorf("routes end at %d/%d", p, c)
	}

	t.edit(func(s *v1beta1.CanarySpec) { s.Analysis.Metrics[0].TemplateVariables["value"] = "50" })
	t.paint("red")
	t.settled(v1beta1.CanaryPhaseFailed)
	t.expectCopies("green", "red")

	// what was promoted comes back, not what failed.
	uid := t.service("podinfo-primary").UID
	t.must(t.kube.CoreV1().Services(t.ns).Delete(t.Context(), "podinfo-primary", metav1.DeleteOptions{}))
	t.wait(corev1.SchemeGroupVersion.WithResource("services"), "podinfo-primary", func(u *unstructured.Unstructured) bool {
		return u.GetUID() != uid
	})
	t.expectCopies("green", "red")
	want := promoted("." + t.ns)
	if diff := cmp.Diff(want, t.events()[:len(want)]); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func (t *team) expectCopies(primary, canary string) {
	t.Helper()
	target := t.service("podinfo")
	for name, color := range map[string]string{"podinfo-primary": primary, "podinfo-canary": canary} {
		got := t.service(name)
		if got.Spec.Selector["color"] != color {
			t.Errorf("%s selects %v, want %s", name, got.Spec.Selector, color)
		}
		if owner := metav1.GetControllerOf(got); owner == nil || owner.Kind != "Canary" {
			t.Errorf("%s belongs to %v", name, owner)
		}
		if got.Spec.ClusterIP == "" || got.Spec.ClusterIP == target.Spec.ClusterIP {
			t.Errorf("%s has the cluster IP %q, the target %q", name, got.Spec.ClusterIP, target.Spec.ClusterIP)
		}
		if got.Labels["team"] != "a" || got.Annotations["example.com/owner"] != "a" {
			t.Errorf("%s has the labels %v and the annotations %v", name, got.Labels, got.Annotations)
		}
		if diff := cmp.Diff(sharable(t, target), sharable(t, got)); diff != "" {
			t.Errorf("%s and its target differ (-target +copy):\n%s", name, diff)
		}
	}
}

// sharable is the spec of a Service without what each has for itself.
func sharable(t *team, s *corev1.Service) map[string]any {
	t.Helper()
	spec := s.Spec.DeepCopy()
	spec.ClusterIP, spec.ClusterIPs, spec.Selector = "", nil, nil
	for i := range spec.Ports {
		if spec.Ports[i].NodePort == 0 {
			t.Errorf("port %s of %s has no node port", spec.Ports[i].Name, s.Name)
		}
		spec.Ports[i].NodePort = 0
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(spec)
	t.must(err)
	return fields
}
