package router

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Originals returns the objects of users among those that a provider renders, as they were before they were taken over. The
// share that the provider owns comes from the spec that kubectl last applied, or else from the one that was kept in
// OriginalAnnotation, which then goes. An object with neither stays as it is.
func Originals(c *v1beta1.Canary, rendered []Object, live Live) ([]Object, error) {
	var originals []Object
	for i := range rendered {
		o := &rendered[i]
		current, err := live.Get(o.Ref)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Ref, err)
		}
		if current == nil || ControlOf(c, current) != Foreign {
			continue
		}
		spec, err := OriginalSpec(o.Ref, current)
		if err != nil {
			return nil, err
		}
		if spec == nil {
			continue
		}
		if o.Restore != nil {
			live, _, err := unstructured.NestedMap(current.Object, "spec")
			if err == nil {
				spec, err = o.Restore(live, spec)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", o.Ref, err)
			}
		}
		originals = append(originals, Object{
			Ref:     o.Ref,
			Wanted:  NewObject(o.Ref, nil, o.Released, spec),
			Owned:   append(originalPaths(o.Owned, spec), []string{"metadata", "annotations", OriginalAnnotation}),
			Unowned: true,
			Named:   o.Named,
			NamedBy: o.NamedBy,
		})
	}
	return originals, nil
}

// originalPaths shortens owned paths whose parents the original lacks, so that no empty parent is left behind.
func originalPaths(owned [][]string, spec map[string]any) [][]string {
	paths := make([][]string, 0, len(owned)+1)
	for _, path := range owned {
		for n := 2; n < len(path) && path[0] == "spec"; n++ {
			if _, ok, err := unstructured.NestedFieldNoCopy(spec, path[1:n]...); err == nil && !ok {
				path = path[:n]
			}
		}
		paths = append(paths, path)
	}
	return paths
}

// OriginalSpec reads what an object of a user was before it was taken over, nil if that is not known.
func OriginalSpec(ref Ref, current *unstructured.Unstructured) (map[string]any, error) {
	annotations := current.GetAnnotations()
	if raw, ok := annotations[KubectlAnnotation]; ok {
		var applied struct{ Spec json.RawMessage }
		if err := json.Unmarshal([]byte(raw), &applied); err != nil {
			return nil, unreadable(ref, KubectlAnnotation, err)
		}
		if applied.Spec != nil {
			return specOf(ref, KubectlAnnotation, applied.Spec)
		}
	}
	if raw, ok := annotations[OriginalAnnotation]; ok {
		return specOf(ref, OriginalAnnotation, []byte(raw))
	}
	return nil, nil
}

func specOf(ref Ref, annotation string, raw []byte) (map[string]any, error) {
	spec := map[string]any{}
	if err := json.Unmarshal(raw, &spec); err != nil {
		return nil, unreadable(ref, annotation, err)
	}
	// Fields makes whole numbers of what JSON has as floats.
	return Fields(spec)
}

func unreadable(ref Ref, annotation string, err error) error {
	return fmt.Errorf("%s: annotation %s can't be read, so the object can't be made what it was: %w: correct or remove the annotation",
		ref, annotation, err)
}

// Remaining returns the live objects among the rendered ones that the Canary controls, the last rendered first: what leads to
// others goes before them.
func Remaining(c *v1beta1.Canary, rendered []Object, live Live) ([]Ref, error) {
	var refs []Ref
	for _, o := range slices.Backward(rendered) {
		current, err := live.Get(o.Ref)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Ref, err)
		}
		if current != nil && current.GetDeletionTimestamp() == nil && ControlOf(c, current) == Ours {
			refs = append(refs, o.Ref)
		}
	}
	return refs, nil
}

// Delete deletes objects, in their order, that the Canary still controls. One that is gone already is no failure.
func (a *Applier) Delete(ctx context.Context, c *v1beta1.Canary, refs []Ref) error {
	for _, ref := range refs {
		current, err := a.Get(ref)
		if err != nil {
			return err
		}
		if current == nil || ControlOf(c, current) != Ours {
			continue
		}
		uid := current.GetUID()
		err = a.resource(ref).Delete(ctx, ref.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		if err != nil && !apierrors.IsNotFound(err) {
			return &WriteError{Ref: ref, Op: Delete, Err: err}
		}
		a.answers.withdraw(ref)
	}
	return nil
}
