package workload

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// A copy that can't be changed is left behind under a name with a checksum when the next content is promoted. It goes when
// neither the primary nor a stored revision refers to it.

// Copier is a Target whose primaries read copies of ConfigMaps and Secrets.
type Copier interface {
	// UnusedCopies lists the copies with a checksum in their name that the primary of a Canary does not refer to. Owned lists the
	// objects of a resource that the Canary controls. It reads nothing but owned and live.
	UnusedCopies(c *v1beta1.Canary, owned func(router.Ref) []*unstructured.Unstructured, live router.Live) ([]router.Ref, error)
	// ChangedCopies lists the copies that the primary reads and that have not the content which it was promoted with. It reads
	// nothing but live.
	ChangedCopies(c *v1beta1.Canary, live router.Live) ([]ChangedCopy, error)
	// RestoreCopies gives them the previous content back where that is possible.
	RestoreCopies(ctx context.Context, c *v1beta1.Canary) error
	// DeleteCopies deletes those of them that nothing refers to by now, and returns the others.
	DeleteCopies(ctx context.Context, c *v1beta1.Canary, unused []router.Ref) (kept []router.Ref, err error)
}

// UnusedCopies implements Copier.
func (d *deployment) UnusedCopies(c *v1beta1.Canary, owned func(router.Ref) []*unstructured.Unstructured, live router.Live) (
	[]router.Ref, error) {
	if !d.options.TrackConfigs {
		return nil, nil
	}
	primary, err := live.Get(d.ref(c.Namespace, PrimaryName(c)))
	if err != nil || primary == nil {
		return nil, err
	}
	var unused []router.Ref
	used := d.templates.of(c, primary).mandatoryConfigs(primary)
	for _, kind := range []string{configMapKind, secretKind} {
		for _, u := range owned(configKey{kind: kind}.ref(c.Namespace)) {
			key := configKey{kind, u.GetName()}
			if _, isUsed := used[key]; !isUsed && u.GetNamespace() == c.Namespace && isLeftCopy(c, kind, u) {
				unused = append(unused, key.ref(c.Namespace))
			}
		}
	}
	slices.SortFunc(unused, func(a, b router.Ref) int { return slices.Compare([]string{a.Kind, a.Name}, []string{b.Kind, b.Name}) })
	return unused, nil
}

// isLeftCopy is whether an object is a copy that this Canary made for itself alone, under a name with a checksum. Flagger makes
// none.
func isLeftCopy(c *v1beta1.Canary, kind string, u *unstructured.Unstructured) bool {
	source := configKey{kind, annotationAt(u, copyOfAnnotation)}
	if source.name == "" || len(u.GetOwnerReferences()) != 1 || !router.Owns(c, u) || u.GetDeletionTimestamp() != nil {
		return false
	}
	return slices.ContainsFunc(copyNames(c, source, digestOf(u).all), func(pair [2]string) bool { return pair[1] == u.GetName() })
}

// DeleteCopies implements Copier.
func (d *deployment) DeleteCopies(ctx context.Context, c *v1beta1.Canary, unused []router.Ref) (kept []router.Ref, err error) {
	stored, err := d.history().listRevisions(ctx, c)
	if apierrors.IsForbidden(err) {
		// What is stored may refer to any of them.
		return unused, nil
	}
	if err != nil {
		return nil, err
	}
	primary, err := d.get(ctx, c.Namespace, PrimaryName(c))
	if err != nil || primary == nil {
		return nil, err
	}
	used := mandatory(mapAt(primary.Object, podSpecPath()...))
	for _, ref := range unused {
		deleted, err := d.deleteCopy(ctx, c, ref, func(key configKey, source, content string) bool {
			_, isUsed := used[key]
			return isUsed || slices.ContainsFunc(stored, func(r unstructured.Unstructured) bool {
				return stringAt(mapAt(r.Object, "data", "configs"), configKey{key.kind, source}.String()) == content
			})
		})
		if err != nil {
			return nil, err
		}
		if !deleted {
			kept = append(kept, ref)
		}
	}
	return kept, nil
}

// deleteCopy reports whether a copy is gone. Refers tells whether something refers to a copy, or to this content of its source.
func (d *deployment) deleteCopy(ctx context.Context, c *v1beta1.Canary, ref router.Ref,
	refers func(key configKey, source, content string) bool) (bool, error) {
	key := configKey{configMapKind, ref.Name}
	if ref.Kind == "Secret" {
		key.kind = secretKind
	}
	copies := d.copies()
	u, err := copies.get(ctx, c, key)
	if err != nil || u == nil {
		return err == nil, err
	}
	if !isLeftCopy(c, key.kind, u) || refers(key, annotationAt(u, copyOfAnnotation), digestOf(u).all) {
		return false, nil
	}
	uid, version := u.GetUID(), u.GetResourceVersion()
	err = copies.resource(c, key).Delete(ctx, key.name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return false, fmt.Errorf("deleting %s %s.%s failed: %w", key.kind, key.name, c.Namespace, err)
	}
	return true, nil
}
