package workload

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// Replacer is a Target whose primary may have to give way to one with another selector.
type Replacer interface {
	// ReplacePrimary is EnsurePrimary for a primary that no request depends on: if it selects its pods by other labels than the copy
	// needs, it is deleted and the copy is created in its place. One that was not made for this Canary is left alone.
	ReplacePrimary(ctx context.Context, c *v1beta1.Canary, revision rollout.Revision) error
}

// ReplacePrimary implements Replacer. If it ends between the two writes, the copy is made like any primary that is missing.
func (d *deployment) ReplacePrimary(ctx context.Context, c *v1beta1.Canary, revision rollout.Revision) error {
	var replaced string
	var err error
	for range writeAttempts {
		if replaced, err = d.removeOther(ctx, c, revision); !apierrors.IsConflict(err) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("replacing %s %s.%s failed: %w", d.noun(), PrimaryName(c), c.Namespace, err)
	}
	if err := d.EnsurePrimary(ctx, c, revision); err != nil || replaced == "" {
		return err
	}
	return d.patch(ctx, c, PrimaryName(c), map[string]any{"metadata": map[string]any{"annotations": map[string]any{replacedLabelAnnotation: replaced}}})
}

// removeOther deletes a primary with another selector once all that a new one is made from is there, and returns the label that it
// selected its pods by.
func (d *deployment) removeOther(ctx context.Context, c *v1beta1.Canary, revision rollout.Revision) (string, error) {
	primary, err := d.get(ctx, c.Namespace, PrimaryName(c))
	if err != nil || primary == nil {
		return "", err
	}
	target, err := d.get(ctx, c.Namespace, c.Spec.TargetRef.Name)
	if err != nil {
		return "", err
	}
	if target == nil {
		return "", errors.New(targetNotFound(c).Message)
	}
	src, err := d.sourceOf(c, target, revision)
	if err != nil || selects(primary, src.selector) {
		return "", err
	}
	made, ours := primarySelector(c, primary)
	if !ours {
		return "", errors.New(checkPrimarySelector(c, primary, src.selector).Message)
	}
	if _, err := d.copies().ensure(ctx, c, revision); err != nil {
		return "", fmt.Errorf("CreatePrimaryConfigs failed: %w", err)
	}
	if d.counted && (c.Spec.AutoscalerRef != nil || src.replicas == 0) {
		src.replicas = intAt(primary.Object, 1, "spec", "replicas")
	}
	if err := d.history().storeRevision(ctx, c, src); err != nil {
		return "", err
	}
	return made.Label, d.remove(ctx, c, primary)
}

// remove deletes a primary as it was read, and its pods with it.
func (d *deployment) remove(ctx context.Context, c *v1beta1.Canary, primary *unstructured.Unstructured) error {
	if held := primary.GetFinalizers(); len(held) > 0 && primary.GetDeletionTimestamp() != nil {
		return fmt.Errorf("%s is being deleted and held by the finalizers %v: it can be made anew once they are gone", described(primary), held)
	}
	uid, version, pods := primary.GetUID(), primary.GetResourceVersion(), metav1.DeletePropagationBackground
	err := d.workloads(c).Delete(ctx, primary.GetName(), metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}, PropagationPolicy: &pods,
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("%s delete error: %w", described(primary), err)
	}
	return nil
}
