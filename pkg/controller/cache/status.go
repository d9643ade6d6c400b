package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// ErrOutdatedCRD is a status that the API server stored without our record of the rollout. A CRD that is older than the
// operator does not know the field: Helm, for one, leaves the CRDs of a chart as they are when it upgrades.
var ErrOutdatedCRD = errors.New("the CRD canaries.flagger.app is older than this operator and drops status.rollout: " +
	"apply artifacts/flagger/crd.yaml of this version; nothing is rolled out before that")

// StatusDiffers compares the statuses as the API server would store them.
func StatusDiffers(old, next *v1beta1.CanaryStatus) (bool, error) {
	// So it is in almost every pass.
	if equality.Semantic.DeepEqual(old, next) {
		return false, nil
	}
	data, err := json.Marshal(next)
	if err != nil {
		return false, err
	}
	var stored v1beta1.CanaryStatus
	if err := json.Unmarshal(data, &stored); err != nil {
		return false, err
	}
	return !equality.Semantic.DeepEqual(*old, stored), nil
}

// WriteStatus replaces the status of a Canary. It fails with a conflict if the object is no longer at the version of u.
// Everything outside of the status is sent back as it was read, fields unknown to us included.
func (s *Canaries) WriteStatus(ctx context.Context, u *unstructured.Unstructured, status *v1beta1.CanaryStatus) error {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(status)
	if err != nil {
		return fmt.Errorf("canary %s/%s: encoding the status: %w", u.GetNamespace(), u.GetName(), err)
	}
	// Sent and not changed, so what is not replaced need not be copied.
	next := &unstructured.Unstructured{Object: maps.Clone(u.Object)}
	next.Object["status"] = fields
	if s.outdated.Load() {
		// Whether the CRD was updated meanwhile is found out without a write, or each attempt would be one.
		err := s.updateStatus(ctx, s.cluster.client, next, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil {
			return err
		}
	}
	return s.updateStatus(ctx, s.cluster.Client(), next, metav1.UpdateOptions{})
}

func (s *Canaries) updateStatus(ctx context.Context, client dynamic.Interface, u *unstructured.Unstructured, options metav1.UpdateOptions) error {
	wanted := recordIn(u)
	stored, err := client.Resource(CanaryResource).Namespace(u.GetNamespace()).UpdateStatus(ctx, u, options)
	if err != nil {
		return fmt.Errorf("failed to sync canary %s.%s status: %w", u.GetName(), u.GetNamespace(), err)
	}
	s.outdated.Store(!holds(recordIn(stored), wanted))
	if s.outdated.Load() {
		return fmt.Errorf("canary %s/%s: %w", u.GetNamespace(), u.GetName(), ErrOutdatedCRD)
	}
	return nil
}

// recordIn returns the names of the fields of status.rollout that have a value.
func recordIn(u *unstructured.Unstructured) []string {
	value, _, _ := unstructured.NestedFieldNoCopy(u.Object, "status", "rollout")
	record, _ := value.(map[string]any)
	var names []string
	for name, value := range record {
		if value != nil {
			names = append(names, name)
		}
	}
	return names
}

func holds(all, some []string) bool {
	return !slices.ContainsFunc(some, func(name string) bool { return !slices.Contains(all, name) })
}

// PatchStatus merges fields into the status of a Canary that can't be decoded.
func (s *Canaries) PatchStatus(ctx context.Context, u *unstructured.Unstructured, fields map[string]any) error {
	patch, err := json.Marshal(map[string]any{"status": fields})
	if err != nil {
		return err
	}
	_, err = s.resource(u).Patch(ctx, u.GetName(), types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("failed to sync canary %s.%s status: %w", u.GetName(), u.GetNamespace(), err)
	}
	return nil
}

func (s *Canaries) resource(u *unstructured.Unstructured) dynamic.ResourceInterface {
	return s.cluster.Client().Resource(CanaryResource).Namespace(u.GetNamespace())
}

// SetFinalizer adds or removes our finalizer; those of others stay. It fails with a conflict if somebody else has changed the
// Canary since it was last seen.
func (s *Canaries) SetFinalizer(ctx context.Context, key string, uid types.UID, present bool) error {
	u, err := s.Object(key)
	if u == nil || u.GetUID() != uid {
		return err
	}
	finalizers := slices.DeleteFunc(slices.Clone(u.GetFinalizers()), func(f string) bool { return f == v1beta1.Finalizer })
	if present {
		finalizers = append(finalizers, v1beta1.Finalizer)
	}
	if slices.Equal(finalizers, u.GetFinalizers()) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"finalizers": finalizers, "resourceVersion": u.GetResourceVersion(),
	}})
	if err != nil {
		return err
	}
	_, err = s.resource(u).Patch(ctx, u.GetName(), types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil && (present || !apierrors.IsNotFound(err)) {
		return fmt.Errorf("canary %s.%s finalizers patch error: %w", u.GetName(), u.GetNamespace(), err)
	}
	return nil
}
