package workload

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/dynamic"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/fingerprint"
	"flagger.app/flagger/pkg/rollout"
)

// Promoted revisions are stored as ControllerRevisions that the Canary owns, before the primary is written. A primary that
// somebody deletes is rebuilt from there, and not from a target that may be at a revision that failed.
//
// A role that was made for Flagger does not allow ControllerRevisions. Without the permission nothing is stored, and all
// else works.

const (
	// canaryUIDLabel marks the stored revisions of a Canary by its UID; its name may be too long for a label.
	canaryUIDLabel = "flagger.app/canary-uid"
	// defaultHistory is how many revisions are kept for a target that does not say.
	defaultHistory = 10
)

func revisionsResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "controllerrevisions"}
}

// history stores and finds the promoted revisions of Canaries.
type history struct{ client dynamic.Interface }

func (h history) revisions(c *v1beta1.Canary) dynamic.ResourceInterface {
	return h.client.Resource(revisionsResource()).Namespace(c.Namespace)
}

// storedRevision returns the target as it was at a revision, nil if that is not stored. A revision of a previous target is none
// of this one.
func (h history) storedRevision(ctx context.Context, c *v1beta1.Canary, revision rollout.Revision) (
	*unstructured.Unstructured, error) {
	name := revisionName(c, revision)
	stored, err := h.revisions(c).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("controllerrevision %s.%s get query error: %w", name, c.Namespace, err)
	}
	return targetIn(stored, c), nil
}

// targetIn returns the target that a revision holds, nil if it is another one than that of the Canary.
func targetIn(stored *unstructured.Unstructured, c *v1beta1.Canary) *unstructured.Unstructured {
	target := mapAt(stored.Object, "data", "target")
	ref := c.Spec.TargetRef
	if target == nil || stringAt(target, "kind") != ref.Kind || stringAt(target, "metadata", "name") != ref.Name {
		return nil
	}
	return &unstructured.Unstructured{Object: runtime.DeepCopyJSON(target)}
}

// past is what is stored of a Canary.
type past struct {
	// list are the revisions, the oldest first.
	list []unstructured.Unstructured
	// forbidden is whether they may not be read; then none is stored either.
	forbidden bool
}

// load reads what is stored of a Canary.
func (h history) load(ctx context.Context, c *v1beta1.Canary) (past, error) {
	var p past
	err := permitted(func() (err error) {
		p.list, err = h.listRevisions(ctx, c)
		return err
	})
	if apierrors.IsForbidden(err) {
		return past{forbidden: true}, nil
	}
	return p, err
}

// storeRevision stores what the primary is about to be made from. What is stored is read only where some of it may have to go, and where
// this revision is there already: each run has stored one at the most.
func (h history) storeRevision(ctx context.Context, c *v1beta1.Canary, src source) error {
	limit := max(intAt(src.target.Object, defaultHistory, "spec", "revisionHistoryLimit"), 1)
	run, known := runOf(c)
	if known && run <= limit {
		if err := h.create(ctx, c, src, run+1); !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	p, err := h.load(ctx, c)
	if err != nil || p.forbidden {
		return err
	}
	list, name, number := p.list, revisionName(c, src.revision), run+1
	if len(list) > 0 {
		newest := list[len(list)-1]
		if newest.GetName() == name {
			return nil
		}
		number = max(number, intAt(newest.Object, 0, "revision")+1)
	}
	isThis := func(r unstructured.Unstructured) bool { return r.GetName() == name }
	if slices.ContainsFunc(list, isThis) {
		return h.renumber(ctx, c, name, number)
	}
	if err := h.create(ctx, c, src, number); err != nil {
		return err
	}
	return h.pruneRevisions(ctx, c, list, limit)
}

// runOf counts the rollouts of a Canary, if there is a record of them.
func runOf(c *v1beta1.Canary) (run int64, known bool) {
	if c.Status.Rollout == nil {
		return 0, false
	}
	return c.Status.Rollout.Run, true
}

// create stores a revision where it is allowed.
func (h history) create(ctx context.Context, c *v1beta1.Canary, src source, number int64) error {
	name := revisionName(c, src.revision)
	err := permitted(func() error {
		_, err := h.revisions(c).Create(ctx, newRevision(c, src, name, number), metav1.CreateOptions{})
		return err
	})
	if err == nil || apierrors.IsForbidden(err) {
		return nil
	}
	return fmt.Errorf("controllerrevision %s.%s create error: %w", name, c.Namespace, err)
}

// permitted does again what was forbidden. An authorizer or an admission webhook that fails for a moment forbids what a role
// allows, and a revision that was not stored at its promotion never is.
func permitted(do func() error) error {
	err := do()
	if apierrors.IsForbidden(err) {
		err = do()
	}
	return err
}

// renumber makes a stored revision the newest.
func (h history) renumber(ctx context.Context, c *v1beta1.Canary, name string, number int64) error {
	stored, err := h.revisions(c).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("controllerrevision %s.%s get query error: %w", name, c.Namespace, err)
	}
	stored.Object["revision"] = number
	if _, err := h.revisions(c).Update(ctx, stored, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("controllerrevision %s.%s update error: %w", name, c.Namespace, err)
	}
	return nil
}

// pruneRevisions deletes the oldest of the revisions that were stored before the present one. That which was promoted last stays
// whatever its number: the primary runs it until the copy is done.
func (h history) pruneRevisions(ctx context.Context, c *v1beta1.Canary, old []unstructured.Unstructured, limit int64) error {
	kept := ""
	if promoted := promotedOf(c); promoted != nil {
		kept = revisionName(c, rollout.Revision{Fingerprint: promoted.Fingerprint, Configs: promoted.Configs})
	}
	for excess := len(old) - int(limit); excess > 0; excess-- {
		name := old[0].GetName()
		old = old[1:]
		if name == kept {
			continue
		}
		err := h.revisions(c).Delete(ctx, name, metav1.DeleteOptions{})
		if apierrors.IsForbidden(err) {
			return nil
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("controllerrevision %s.%s delete error: %w", name, c.Namespace, err)
		}
	}
	return nil
}

// listRevisions returns the stored revisions of a Canary, the oldest first.
func (h history) listRevisions(ctx context.Context, c *v1beta1.Canary) ([]unstructured.Unstructured, error) {
	selector := labels.Set{canaryUIDLabel: string(c.UID)}.String()
	list, err := h.revisions(c).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, fmt.Errorf("controllerrevisions of canary %s.%s list error: %w", c.Name, c.Namespace, err)
	}
	slices.SortFunc(list.Items, func(a, b unstructured.Unstructured) int {
		return cmp.Or(cmp.Compare(intAt(a.Object, 0, "revision"), intAt(b.Object, 0, "revision")),
			a.GetCreationTimestamp().Compare(b.GetCreationTimestamp().Time))
	})
	return list.Items, nil
}

// revisionName follows from the revision, so that storing it twice stores it once. The UID keeps it apart from what a deleted
// Canary of the same name left to the garbage collector.
func revisionName(c *v1beta1.Canary, revision rollout.Revision) string {
	identity := sha256.Sum256([]byte(fingerprint.Revision(revision.Fingerprint, revision.Configs) + string(c.UID)))
	suffix := "-promoted-" + hex.EncodeToString(identity[:5])
	name := c.Name
	if room := validation.DNS1123SubdomainMaxLength - len(suffix); len(name) > room {
		name = strings.TrimRight(name[:room], "-.")
	}
	return name + suffix
}

func newRevision(c *v1beta1.Canary, src source, name string, number int64) *unstructured.Unstructured {
	metadata := map[string]any{"name": src.target.GetName(), "namespace": src.target.GetNamespace()}
	target := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": src.target.GetAPIVersion(), "kind": src.target.GetKind(), "metadata": metadata,
		"spec": runtime.DeepCopyJSON(mapAt(src.target.Object, "spec")),
	}}
	target.SetLabels(src.target.GetLabels())
	annotations := src.target.GetAnnotations()
	for key := range annotations {
		if !copiesKey(key) {
			delete(annotations, key)
		}
	}
	target.SetAnnotations(annotations)
	if spec := mapAt(target.Object, "spec"); spec["replicas"] != nil {
		spec["replicas"] = max(src.replicas, 1)
	}
	configs := make(map[string]any, len(src.revision.Configs))
	for key, checksum := range src.revision.Configs {
		configs[key] = checksum
	}
	r := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "ControllerRevision",
		"metadata": map[string]any{"name": name, "namespace": c.Namespace},
		"data":     map[string]any{"target": target.Object, "configs": configs},
		"revision": number,
	}}
	r.SetLabels(map[string]string{canaryUIDLabel: string(c.UID)})
	own(c, r)
	return r
}
