package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// writeAttempts is how often an update is tried again after a conflict. The Deployment controller writes the status of a
// primary whenever a pod changes, so conflicts are common and mean nothing.
const writeAttempts = 5

// EnsurePrimary implements Target. The primary is taken from the cache at first: a write that builds on an old state is refused, and
// that there is nothing to write is believed to the server alone. The target comes from the server: it is not written, and its analysis
// may have been about a newer revision. Only a bootstrap, whose primary follows the target until it serves, takes that from the cache, too.
func (d *deployment) EnsurePrimary(ctx context.Context, c *v1beta1.Canary, revision rollout.Revision) error {
	if d.live != nil {
		wrote, err := d.ensurePrimary(ctx, c, revision, d.cached)
		if wrote && err == nil || err != nil && !movedOn(err) {
			return err
		}
	}
	var err error
	for range writeAttempts {
		if _, err = d.ensurePrimary(ctx, c, revision, d.get); !movedOn(err) {
			return err
		}
	}
	return err
}

// movedOn is whether a write was refused because what it built on is not how it is any more.
func movedOn(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }

// read reads a workload, nil if there is none.
type read func(ctx context.Context, namespace, name string) (*unstructured.Unstructured, error)

// ensurePrimary is one attempt, with a primary that is read in some way. It reports whether the primary was written.
func (d *deployment) ensurePrimary(ctx context.Context, c *v1beta1.Canary, revision rollout.Revision, read read) (wrote bool, err error) {
	if revision.Fingerprint == "" {
		return false, fmt.Errorf("%s %s.%s: no revision to copy", d.noun(), PrimaryName(c), c.Namespace)
	}
	readTarget := d.get
	if c.Status.Phase == v1beta1.CanaryPhaseInitializing {
		readTarget = read
	}
	target, err := readTarget(ctx, c.Namespace, c.Spec.TargetRef.Name)
	if err != nil {
		return false, err
	}
	if target == nil {
		return false, errors.New(targetNotFound(c).Message)
	}
	primary, err := read(ctx, c.Namespace, PrimaryName(c))
	if err != nil {
		return false, err
	}
	if primary == nil && c.HasOwnPrimary() {
		return false, errMissing(c)
	}
	if primary == nil {
		return true, d.createPrimary(ctx, c, target, revision)
	}
	return d.updatePrimary(ctx, c, target, primary, revision)
}

func (d *deployment) createPrimary(ctx context.Context, c *v1beta1.Canary, target *unstructured.Unstructured,
	revision rollout.Revision) error {
	src, err := d.sourceOf(c, target, revision)
	stored, unread := d.storedFor(ctx, c, target, revision, err)
	if unread != nil {
		return fmt.Errorf("createPrimary%s failed: %w", d.kind, unread)
	}
	switch {
	case errors.Is(err, ErrMoved) && stored != nil:
		if src, err = d.sourceOf(c, stored, revision); err == nil {
			// The Services select what is there now, and so does the next copy.
			if now, problem := selectorOf(target, d.options.SelectorLabels); problem == nil {
				src.selector = now
			}
		}
	case errors.Is(err, ErrMoved) && wasPromoted(c, revision):
		// Not ErrMoved: a pass with a fresh view of the cluster would come to the same end.
		err = lostRevision(c, target, revision)
	}
	if err != nil {
		return fmt.Errorf("createPrimary%s failed: %w", d.kind, err)
	}
	if replicas := intAt(target.Object, 1, "spec", "replicas"); replicas > 0 {
		src.replicas = replicas
		if stored != nil && c.Spec.AutoscalerRef != nil {
			// An autoscaler gave the primary that this one replaces more.
			src.replicas = max(replicas, intAt(stored.Object, 1, "spec", "replicas"))
		}
	} else if stored != nil {
		src.replicas = intAt(stored.Object, 1, "spec", "replicas")
	}
	copies := d.copies()
	if wasPromoted(c, revision) {
		src.names, err = copies.present(ctx, c, revision)
	} else {
		src.names, err = copies.ensure(ctx, c, revision)
	}
	if err != nil {
		return fmt.Errorf("createPrimary%s failed: CreatePrimaryConfigs failed: %w", d.kind, err)
	}
	if stored == nil {
		if err := d.history().storeRevision(ctx, c, src); err != nil {
			return fmt.Errorf("createPrimary%s failed: %w", d.kind, err)
		}
	}
	wanted, err := d.newPrimary(c, src)
	if err != nil {
		return fmt.Errorf("createPrimary%s failed: %w", d.kind, err)
	}
	created, err := d.workloads(c).Create(ctx, wanted, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("createPrimary%s failed: %s create error: %w", d.kind, described(wanted), err)
	}
	return d.confirmRecord(ctx, c, created)
}

// storedFor reads what is stored of a revision where a primary that is made of it depends on that: where it had one before, and where
// the target does not tell all of it.
func (d *deployment) storedFor(ctx context.Context, c *v1beta1.Canary, target *unstructured.Unstructured, revision rollout.Revision,
	sourced error) (*unstructured.Unstructured, error) {
	tells := sourced == nil && intAt(target.Object, 1, "spec", "replicas") > 0 && c.Spec.AutoscalerRef == nil
	if tells && !wasPromoted(c, revision) {
		return nil, nil
	}
	return d.history().storedRevision(ctx, c, revision)
}

func lostRevision(c *v1beta1.Canary, target *unstructured.Unstructured, revision rollout.Revision) error {
	undo := fmt.Sprintf("bring the %s back to it", target.GetKind())
	if revision.Counter != "" {
		undo += fmt.Sprintf(", for example by kubectl -n %s rollout undo deployment/%s --to-revision=%s",
			target.GetNamespace(), target.GetName(), revision.Counter)
	}
	return fmt.Errorf("revision %s, which was promoted, is neither what %s is at now nor stored: %s, or set status.phase of %s.%s to "+
		"nothing to have the primary made from what it is at now", revision.Fingerprint, described(target), undo, c.Name, c.Namespace)
}

// wasPromoted is whether the primary is known to have run a revision.
func wasPromoted(c *v1beta1.Canary, revision rollout.Revision) bool {
	status := c.Status.Rollout
	return status != nil && status.Promoted != nil && status.Promoted.Fingerprint == revision.Fingerprint &&
		maps.Equal(status.Promoted.Configs, revision.Configs)
}

func (d *deployment) updatePrimary(ctx context.Context, c *v1beta1.Canary, target, primary *unstructured.Unstructured,
	revision rollout.Revision) (wrote bool, err error) {
	failed := func(err error) (bool, error) {
		return false, fmt.Errorf("updating %s %s.%s template spec failed: %w", d.noun(), PrimaryName(c), c.Namespace, err)
	}
	src, err := d.sourceOf(c, target, revision)
	if err != nil {
		return failed(err)
	}
	if problem := checkPrimary(c, primary, src.selector); problem != nil {
		return failed(errors.New(problem.Message))
	}
	if src.names, err = d.copies().ensure(ctx, c, revision); err != nil {
		return failed(fmt.Errorf("CreatePrimaryConfigs failed: %w", err))
	}
	next, err := d.nextPrimary(c, src, primary)
	if err != nil {
		return failed(err)
	}
	if reflect.DeepEqual(withoutNulls(next.Object), withoutNulls(primary.Object)) {
		return false, nil
	}
	if err := d.history().storeRevision(ctx, c, src); err != nil {
		return failed(err)
	}
	// The update carries the resourceVersion that was read, so it fails when anybody wrote in between.
	updated, err := d.workloads(c).Update(ctx, next, metav1.UpdateOptions{})
	if err != nil {
		return failed(err)
	}
	return true, d.confirmRecord(ctx, c, updated)
}

// checkUpdatable tells of a primary that can't become a copy because its selector can't be changed.
func checkUpdatable(primary *unstructured.Unstructured, s Selector) *rollout.Problem {
	if selects(primary, s) {
		return nil
	}
	return invalid("%s selects its pods by %s and not by %s=%s alone", described(primary), labelsIn(primary), s.Label, s.PrimaryValue())
}

// sourceOf makes sure that an object is at the revision asked for, and gets it ready to be copied.
func (d *deployment) sourceOf(c *v1beta1.Canary, target *unstructured.Unstructured, revision rollout.Revision) (source, error) {
	hash, err := templateFingerprint(target)
	if err != nil {
		return source{}, err
	}
	if hash != revision.Fingerprint {
		return source{}, fmt.Errorf("%s has %s and not %s: %w",
			described(target), hash, revision.Fingerprint, ErrMoved)
	}
	selector, problem := d.selector(c, target)
	if problem != nil {
		return source{}, errors.New(problem.Message)
	}
	return source{
		target: target, selector: selector, revision: revision, replicas: intAt(target.Object, 1, "spec", "replicas"),
	}, nil
}

// confirmRecord corrects what is recorded about the template when the server stored another one than it was sent, which an
// admission webhook can bring about. If this write is lost, the primary counts as changed by somebody else and is written
// once more.
func (d *deployment) confirmRecord(ctx context.Context, c *v1beta1.Canary, stored *unstructured.Unstructured) error {
	hash, err := writtenFingerprint(stored)
	if err != nil || annotationAt(stored, primaryTemplateAnnotation) == hash {
		return err
	}
	patch := map[string]any{"metadata": map[string]any{"annotations": map[string]any{primaryTemplateAnnotation: hash}}}
	return d.patch(ctx, c, stored.GetName(), patch)
}

// ScaleUp implements Target. That the target has no pods is taken from the cache: the patch makes sure of it.
func (d *deployment) ScaleUp(ctx context.Context, c *v1beta1.Canary) error {
	name := c.Spec.TargetRef.Name
	target, err := d.cached(ctx, c.Namespace, name)
	known := err == nil && target != nil && d.live != nil && intAt(target.Object, 1, "spec", "replicas") == 0
	if !known {
		target, err = d.get(ctx, c.Namespace, name)
	}
	if err != nil {
		return fmt.Errorf("scaling up %s.%s failed: %w", name, c.Namespace, err)
	}
	if target == nil {
		return fmt.Errorf("scaling up %s.%s failed: %s", name, c.Namespace, targetNotFound(c).Message)
	}
	if err := resumeScaler(ctx, d.client, c); err != nil {
		return fmt.Errorf("scaling up %s.%s failed: %w", name, c.Namespace, err)
	}
	if intAt(target.Object, 1, "spec", "replicas") > 0 {
		return nil
	}
	replicas, err := d.replicasFromZero(ctx, c)
	if err != nil {
		return fmt.Errorf("scaling up %s.%s failed: %w", name, c.Namespace, err)
	}
	if err := d.scaleFromZero(ctx, c, replicas); err != nil {
		return fmt.Errorf("scaling up %s.%s to %d failed: %w", name, c.Namespace, replicas, err)
	}
	return nil
}

// scaleFromZero gives a target pods unless somebody else has done so meanwhile.
func (d *deployment) scaleFromZero(ctx context.Context, c *v1beta1.Canary, replicas int64) error {
	patch, err := json.Marshal([]any{
		map[string]any{"op": "test", "path": "/spec/replicas", "value": 0},
		map[string]any{"op": "replace", "path": "/spec/replicas", "value": replicas},
	})
	if err != nil {
		return err
	}
	name := c.Spec.TargetRef.Name
	if err = d.send(ctx, c, name, types.JSONPatchType, patch); !apierrors.IsInvalid(err) {
		return err
	}
	// A failed test is answered with the same code as any other invalid patch: the server says which of the two it is.
	target, unread := d.get(ctx, c.Namespace, name)
	if unread != nil || target != nil && intAt(target.Object, 1, "spec", "replicas") > 0 {
		return unread
	}
	return err
}

// replicasFromZero is how many pods a target without any gets: the least number that its autoscaler wants, or as many as
// the primary has.
func (d *deployment) replicasFromZero(ctx context.Context, c *v1beta1.Canary) (int64, error) {
	if c.Spec.AutoscalerRef != nil {
		return minReplicas(ctx, d.client, c)
	}
	primary, err := d.cached(ctx, c.Namespace, PrimaryName(c))
	if err != nil || primary == nil {
		return 1, err
	}
	return max(intAt(primary.Object, 1, "spec", "replicas"), 1), nil
}

// ScaleToZero implements Target.
func (d *deployment) ScaleToZero(ctx context.Context, c *v1beta1.Canary) error {
	// An autoscaler that was not told first would bring the pods back.
	if err := PauseScaler(ctx, d.client, c); err != nil {
		return fmt.Errorf("scaling down %s.%s to 0 failed: %w", c.Spec.TargetRef.Name, c.Namespace, err)
	}
	if err := d.scale(ctx, c, 0); err != nil {
		return fmt.Errorf("scaling down %s.%s to 0 failed: %w", c.Spec.TargetRef.Name, c.Namespace, err)
	}
	return nil
}

func (d *deployment) scale(ctx context.Context, c *v1beta1.Canary, replicas int64) error {
	return d.patch(ctx, c, c.Spec.TargetRef.Name, map[string]any{"spec": map[string]any{"replicas": replicas}})
}

func (d *deployment) patch(ctx context.Context, c *v1beta1.Canary, name string, patch map[string]any) error {
	data, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("%s %s.%s patch: %w", d.noun(), name, c.Namespace, err)
	}
	return d.send(ctx, c, name, types.MergePatchType, data)
}

func (d *deployment) send(ctx context.Context, c *v1beta1.Canary, name string, kind types.PatchType, data []byte) error {
	if _, err := d.workloads(c).Patch(ctx, name, kind, data, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("%s %s.%s patch error: %w", d.noun(), name, c.Namespace, err)
	}
	return nil
}

func (d *deployment) workloads(c *v1beta1.Canary) dynamic.ResourceInterface {
	return d.client.Resource(d.resource).Namespace(c.Namespace)
}

func (d *deployment) history() history { return history{d.client} }

func (d *deployment) copies() configCopies { return configCopies{d.client, d.live, d.options} }

// cached returns a workload as the cache has it, nil if it has none. Without a cache it reads from the server.
func (d *deployment) cached(ctx context.Context, namespace, name string) (*unstructured.Unstructured, error) {
	if d.live == nil {
		return d.get(ctx, namespace, name)
	}
	obj, err := d.live.Get(d.ref(namespace, name))
	if err != nil {
		return d.get(ctx, namespace, name)
	}
	return obj, nil
}

// get reads a workload from the server, nil if there is none.
func (d *deployment) get(ctx context.Context, namespace, name string) (*unstructured.Unstructured, error) {
	obj, err := d.client.Resource(d.resource).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s.%s get query error: %w", d.noun(), name, namespace, err)
	}
	return obj, nil
}
