package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	watchtools "k8s.io/client-go/tools/watch"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

const primaryRevision = "flagger.app/primary-revision"

var (
	knativeServices  = schema.GroupVersionResource{Group: "serving.knative.dev", Version: "v1", Resource: "services"}
	knativeRevisions = knativeServices.GroupVersion().WithResource("revisions")
)

// installKnative installs the CRDs of Knative once.
var installKnative = sync.OnceValue(func() error {
	b, err := shared()
	if err != nil {
		return err
	}
	for _, name := range []string{"service.yaml", "revision.yaml"} {
		file, err := downloadedFile("knative.dev/serving@v0.51.0", "config/core/300-resources/"+name)
		if err != nil {
			return err
		}
		if err := b.install(context.Background(), file); err != nil {
			return err
		}
	}
	return nil
})

// knative stands in for the controllers of Knative, which need a cluster with a gateway: it makes a revision for each
// template, which never gets ready if its image is broken, and routes what the Service asks for.
func (t *team) knative() {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	lw := watchOf(ctx, t.dynamic.Resource(knativeServices).Namespace(t.ns), "podinfo")
	go func() {
		defer close(done)
		var images []string
		_, _ = watchtools.UntilWithSync(ctx, lw, &unstructured.Unstructured{}, nil, func(e watch.Event) (bool, error) {
			if service, ok := e.Object.(*unstructured.Unstructured); ok && e.Type != watch.Deleted {
				if err := t.reconcile(ctx, service.DeepCopy(), &images); err != nil && !apierrors.IsConflict(err) && ctx.Err() == nil {
					t.Errorf("knative: %v", err)
				}
			}
			return false, nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

func (t *team) reconcile(ctx context.Context, service *unstructured.Unstructured, images *[]string) error {
	containers, _, _ := unstructured.NestedSlice(service.Object, "spec", "template", "spec", "containers")
	image := containers[0].(map[string]any)["image"].(string)
	if n := len(*images); n == 0 || (*images)[n-1] != image {
		*images = append(*images, image)
		if err := t.addRevision(ctx, len(*images), image); err != nil {
			return err
		}
	}
	latest := revisionName(len(*images))
	traffic, _, _ := unstructured.NestedSlice(service.Object, "spec", "traffic")
	if len(traffic) == 0 {
		traffic = []any{map[string]any{"latestRevision": true, "percent": int64(100)}}
	}
	for _, item := range traffic {
		if entry := item.(map[string]any); entry["latestRevision"] == true {
			entry["revisionName"] = latest
		}
	}
	status := map[string]any{
		"observedGeneration": service.GetGeneration(), "latestCreatedRevisionName": latest, "traffic": traffic,
		"conditions": []any{map[string]any{"type": "RoutesReady", "status": "True"}},
	}
	if cmp.Equal(status, service.Object["status"]) {
		return nil
	}
	service.Object["status"] = status
	_, err := t.dynamic.Resource(knativeServices).Namespace(t.ns).UpdateStatus(ctx, service, metav1.UpdateOptions{})
	return err
}

func revisionName(n int) string { return fmt.Sprintf("podinfo-%05d", n) }

func (t *team) addRevision(ctx context.Context, n int, image string) error {
	ready := "True"
	if strings.Contains(image, "broken") {
		ready = "False"
	}
	revision := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "serving.knative.dev/v1", "kind": "Revision", "metadata": map[string]any{"name": revisionName(n)},
		"spec": map[string]any{"containers": []any{map[string]any{"image": image}}},
	}}
	client := t.dynamic.Resource(knativeRevisions).Namespace(t.ns)
	created, err := client.Create(ctx, revision, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	created.Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": ready}}}
	_, err = client.UpdateStatus(ctx, created, metav1.UpdateOptions{})
	return err
}

func (t *team) shipKnative(image string) {
	t.Helper()
	patch := fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"image":%q}]}}}}`, image)
	_, err := t.dynamic.Resource(knativeServices).Namespace(t.ns).Patch(t.Context(), "podinfo", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	t.must(err)
}

// expectKnative checks what the Service asks for.
func (t *team) expectKnative(primary int, weight int64) {
	t.Helper()
	service, err := t.dynamic.Resource(knativeServices).Namespace(t.ns).Get(t.Context(), "podinfo", metav1.GetOptions{})
	t.must(err)
	if got := service.GetAnnotations()[primaryRevision]; got != revisionName(primary) {
		t.Errorf("the primary is %q, want %s", got, revisionName(primary))
	}
	traffic, _, _ := unstructured.NestedSlice(service.Object, "spec", "traffic")
	want := []any{
		map[string]any{"latestRevision": true, "percent": weight},
		map[string]any{"latestRevision": false, "percent": 100 - weight, "revisionName": revisionName(primary)},
	}
	if diff := cmp.Diff(want, traffic); diff != "" {
		t.Errorf("traffic (-want +got):\n%s", diff)
	}
}

func TestKnative(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.must(installKnative())
	t.knative()
	t.apply(`
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: podinfo}
spec: {template: {spec: {containers: [{image: "podinfo:1"}]}}}
---
` + constant)
	// B-14: the flag is enough to make a Canary one of Knative.
	o := t.operate("-mesh-provider", "knative")
	t.create(canary(func(c *v1beta1.Canary) {
		c.Spec.Provider = ""
		c.Spec.TargetRef = v1beta1.LocalObjectReference{APIVersion: "serving.knative.dev/v1", Kind: "Service", Name: "podinfo"}
		c.Spec.Service = v1beta1.CanaryService{}
		c.Spec.ProgressDeadlineSeconds = new(int32(3))
		c.Spec.RevertOnDeletion = true
	}))
	t.settled(v1beta1.CanaryPhaseInitialized)
	t.expectKnative(1, 0)

	t.shipKnative("podinfo:2")
	t.until("weight 60", func(c *v1beta1.Canary) bool { return c.Status.CanaryWeight == 60 })
	t.settled(v1beta1.CanaryPhaseSucceeded)
	t.expectKnative(2, 0)

	t.shipKnative("podinfo:broken")
	t.settled(v1beta1.CanaryPhaseFailed)
	t.expectKnative(2, 0)
	ns := "." + t.ns
	want := append(promoted(ns),
		"N New revision detected! Scaling up podinfo"+ns,
		"W canary service podinfo"+ns+` not ready: service "podinfo" exceeded its progress deadline`,
		"W Rolling back podinfo"+ns+` progress deadline exceeded service "podinfo" exceeded its progress deadline`,
		"W Canary failed! Scaling down podinfo"+ns,
	)
	// Knative takes its time to make a revision and to route to it.
	got := slices.DeleteFunc(t.events(), func(e string) bool {
		return strings.Contains(e, "not ready: revision") || strings.Contains(e, "has created no revision") || strings.Contains(e, "are not in force")
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}

	t.shipKnative("podinfo:4")
	t.settled(v1beta1.CanaryPhaseSucceeded)
	t.expectKnative(4, 0)
	t.must(t.flagger.FlaggerV1beta1().Canaries(t.ns).Delete(t.Context(), "podinfo", metav1.DeleteOptions{}))
	t.wait(knativeServices, "podinfo", func(u *unstructured.Unstructured) bool { return u.GetAnnotations()[primaryRevision] == "" })
	if strings.Contains(o.log.String(), "panic") {
		t.Errorf("A-14: the operator panicked:\n%s", o.log.String())
	}
}
