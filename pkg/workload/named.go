package workload

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// A primary that spec.primaryRef names is its user's: it is never made, owned, scaled or deleted. Its pods get what the pod template
// of the target says, but for its labels: by those its own selector and the Services of its user find them. Beside that it gets
// the two annotations that say which revision it has.

// renderInto returns the pod template of a primary of the user's with what the target's says.
func (d *deployment) renderInto(target, primary *unstructured.Unstructured) map[string]any {
	template, _ := withoutNulls(mapAt(target.Object, "spec", "template")).(map[string]any)
	theirs, ours := mapAt(target.Object, "spec", "template", "metadata", "labels"), mapAt(primary.Object, "spec", "template", "metadata", "labels")
	annotations := filtered(mapAt(template, "metadata", "annotations"))
	delete(annotations, idAnnotation)
	metadata := mapAt(template, "metadata")
	if metadata == nil {
		metadata = map[string]any{}
		template["metadata"] = metadata
	}
	metadata["annotations"], metadata["labels"] = annotations, runtime.DeepCopyJSON(ours)
	if len(annotations) == 0 {
		delete(metadata, "annotations")
	}
	d.adapt(mapAt(template, "spec"), byLabels(theirs, ours))
	return template
}

// copyInto makes a primary of the user's, which is changed in place, what a revision of the target is. Recorded is the revision that
// it is known to be a copy of.
func (d *deployment) copyInto(c *v1beta1.Canary, src source, p *unstructured.Unstructured, recorded string) error {
	if recorded == src.revision.Fingerprint {
		return nil
	}
	if !d.sameTemplate(c, src.target, p, src.selector, src.names) {
		// Marks of other tools stay only where nothing else changes: the pods start once more either way.
		mapAt(p.Object, "spec")["template"] = d.renderInto(src.target, p)
	}
	return record(p, src.revision.Fingerprint)
}

// missingPrimary tells of a primary of the user's that does not exist.
func missingPrimary(c *v1beta1.Canary) *rollout.Problem {
	return invalid("spec.primaryRef: %s %s.%s does not exist: create it, or correct the name", c.Spec.PrimaryRef.Kind, PrimaryName(c),
		c.Namespace)
}

// checkNamed tells of a primary of the user's that goes when a Canary goes, or that something else cares for.
func checkNamed(primary *unstructured.Unstructured) *rollout.Problem {
	owner := metav1.GetControllerOf(primary)
	if owner == nil {
		return nil
	}
	what := "whatever is written into it is undone"
	if owner.Kind == v1beta1.CanaryKind {
		what = "it goes with that"
	}
	return invalid("spec.primaryRef: %s belongs to %s %s, and %s: name a workload that nothing else owns, or remove its owner reference",
		described(primary), owner.Kind, owner.Name, what)
}

// checkPrimary tells of a primary that can't be written to. It gets the selector of the target.
func checkPrimary(c *v1beta1.Canary, primary *unstructured.Unstructured, s Selector) *rollout.Problem {
	if c.HasOwnPrimary() {
		return checkNamed(primary)
	}
	if problem := checkOwner(c, primary); problem != nil {
		return problem
	}
	return checkUpdatable(primary, s)
}

// selector finds what tells the pods of target and primary apart. For a primary of the user's nothing is, because its Services are
// the user's as well.
func (d *deployment) selector(c *v1beta1.Canary, target *unstructured.Unstructured) (Selector, *rollout.Problem) {
	if c.HasOwnPrimary() {
		return Selector{}, nil
	}
	if problem := checkPrimaryName(c); problem != nil {
		return Selector{}, problem
	}
	return selectorOf(target, d.options.SelectorLabels)
}

// errMissing is missingPrimary as an error of a write.
func errMissing(c *v1beta1.Canary) error { return fmt.Errorf("%s", missingPrimary(c).Message) }
