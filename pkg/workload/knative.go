package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/fingerprint"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/knative"
)

// knativeService is the kind Service of Knative. Knative itself keeps the revisions and scales them. The primary is one of
// them, which an annotation of the Service names; the target is the one that was created last.
type knativeService struct{ client dynamic.Interface }

func knativeServiceRef(namespace, name string) router.Ref { return knative.Ref(namespace, name) }

func knativeRevisionRef(namespace, name string) router.Ref {
	return router.Ref{
		Resource: schema.GroupVersionResource{Group: "serving.knative.dev", Version: "v1", Resource: "revisions"},
		Kind:     "Revision", Namespace: namespace, Name: name,
	}
}

// Observe implements Target.
func (k *knativeService) Observe(c *v1beta1.Canary, live router.Live, _ time.Time) (Observation, *rollout.Problem) {
	name := c.Spec.TargetRef.Name
	o := Observation{
		Target:  rollout.Workload{Name: name, Kind: "Service", Unscalable: true, Health: waiting("the Service does not exist")},
		Primary: rollout.Workload{Name: PrimaryName(c), Kind: "Service", Unscalable: true, Health: waiting("no revision was promoted")},
	}
	service, err := live.Get(knativeServiceRef(c.Namespace, name))
	if err != nil {
		return o, knativeReadFailed(c.Namespace, name, err)
	}
	if service == nil {
		return o, knativeNotFound(c)
	}
	latest := stringAt(service.Object, "status", "latestCreatedRevisionName")
	if latest == "" {
		return o, &rollout.Problem{
			Reason: rollout.ReasonReadFailed, Unknown: true,
			Message: fmt.Sprintf("knative service %s.%s has created no revision yet", name, c.Namespace),
		}
	}
	var first problems
	first.add(observeRevision(&o.Target, live, c.Namespace, latest))
	o.Target.Revision.FlaggerHash = fingerprint.FlaggerName(latest)
	if primary := annotationAt(service, knative.PrimaryAnnotation); primary != "" {
		first.add(observeRevision(&o.Primary, live, c.Namespace, primary))
		o.Primary.Copy = o.Primary.Revision.Fingerprint
	}
	return o, first.problem
}

// observeRevision fills in what is known of one revision. Its name is all its identity, because a revision never changes.
func observeRevision(w *rollout.Workload, live router.Live, namespace, name string) *rollout.Problem {
	hash, err := fingerprint.Value(name)
	if err != nil {
		return knativeReadFailed(namespace, name, err)
	}
	w.Exists, w.Replicas = true, 1
	w.Revision = rollout.Revision{Fingerprint: hash}
	revision, err := live.Get(knativeRevisionRef(namespace, name))
	if err != nil {
		return knativeReadFailed(namespace, name, err)
	}
	w.Health = revisionHealth(namespace, name, revision)
	if w.Health.State == rollout.Ready {
		w.Available = 1
	}
	return nil
}

func revisionHealth(namespace, name string, revision *unstructured.Unstructured) rollout.Health {
	if revision == nil {
		return waiting(fmt.Sprintf("revision %s.%s does not exist", name, namespace))
	}
	ready := condition(revision, "Ready")
	if stringAt(ready, "status") == "True" {
		return rollout.Health{State: rollout.Ready}
	}
	reason := fmt.Sprintf("revision %s.%s is not ready", name, namespace)
	if text := stringAt(ready, "message"); text != "" {
		reason += ": " + text
	}
	return waiting(reason)
}

func knativeReadFailed(namespace, name string, err error) *rollout.Problem {
	return &rollout.Problem{
		Reason: rollout.ReasonReadFailed, Unknown: true,
		Message: fmt.Sprintf("knative service %s.%s get query error: %v", name, namespace, err),
	}
}

func knativeNotFound(c *v1beta1.Canary) *rollout.Problem {
	name := c.Spec.TargetRef.Name
	return &rollout.Problem{
		Reason: rollout.ReasonTargetNotFound,
		Message: fmt.Sprintf("knative service %s.%s get query error: services.serving.knative.dev %q not found: create the "+
			"Service or correct spec.targetRef.name", name, c.Namespace, name),
	}
}

// EnsurePrimary implements Target.
func (k *knativeService) EnsurePrimary(ctx context.Context, c *v1beta1.Canary, revision rollout.Revision) error {
	var err error
	for range writeAttempts {
		if err = k.ensurePrimary(ctx, c, revision); !apierrors.IsConflict(err) {
			return err
		}
	}
	return err
}

func (k *knativeService) ensurePrimary(ctx context.Context, c *v1beta1.Canary, revision rollout.Revision) error {
	name := c.Spec.TargetRef.Name
	client := k.client.Resource(knativeServiceRef("", "").Resource).Namespace(c.Namespace)
	service, err := client.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return errors.New(knativeNotFound(c).Message)
	}
	if err != nil {
		return fmt.Errorf("knative service %s.%s get query error: %w", name, c.Namespace, err)
	}
	promoted, err := revisionNamed(c, service, revision)
	if err != nil || annotationAt(service, knative.PrimaryAnnotation) == promoted {
		return err
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"annotations": map[string]any{knative.PrimaryAnnotation: promoted},
		// The server refuses the patch when anybody wrote in between.
		"resourceVersion": service.GetResourceVersion(),
	}})
	if err != nil {
		return fmt.Errorf("knative service %s.%s patch: %w", name, c.Namespace, err)
	}
	if _, err := client.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("knative service %s.%s patch error: %w", name, c.Namespace, err)
	}
	return nil
}

// revisionNamed finds the name that belongs to a fingerprint. If the annotation is gone, the traffic still names the
// revision that was promoted.
func revisionNamed(c *v1beta1.Canary, service *unstructured.Unstructured, revision rollout.Revision) (string, error) {
	latest := stringAt(service.Object, "status", "latestCreatedRevisionName")
	primary := annotationAt(service, knative.PrimaryAnnotation)
	names := []string{latest, primary}
	if primary == "" {
		for _, field := range []string{"spec", "status"} {
			for _, item := range listAt(service.Object, field, "traffic") {
				entry, _ := item.(map[string]any)
				names = append(names, stringAt(entry, "revisionName"))
			}
		}
	}
	for _, name := range names {
		hash, err := fingerprint.Value(name)
		if err != nil {
			return "", fmt.Errorf("knative service %s.%s: fingerprint: %w", service.GetName(), service.GetNamespace(), err)
		}
		if name != "" && hash == revision.Fingerprint {
			return name, nil
		}
	}
	if wasPromoted(c, revision) {
		return "", fmt.Errorf("knative service %s.%s: the promoted revision is not known any more: name it in the annotation %s",
			service.GetName(), service.GetNamespace(), knative.PrimaryAnnotation)
	}
	return "", fmt.Errorf("knative service %s.%s is at revision %s: %w", service.GetName(), service.GetNamespace(), latest, ErrMoved)
}

// ScaleUp implements Target.
func (k *knativeService) ScaleUp(context.Context, *v1beta1.Canary) error { return nil }

// ScaleToZero implements Target.
func (k *knativeService) ScaleToZero(context.Context, *v1beta1.Canary) error { return nil }
