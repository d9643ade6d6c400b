package workload

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/fingerprint"
	"flagger.app/flagger/pkg/rollout"
)

// source is a revision of the target to make the primary from.
type source struct {
	target   *unstructured.Unstructured
	selector Selector
	revision rollout.Revision
	// replicas is how many pods the primary gets when it is created, and when the target has none to go by.
	replicas int64
	// names are those of the copies of the configs, by the keys of revision.Configs.
	names map[string]string
}

// renderTemplate returns the pod template of the primary, with all fields of the target's but for what tells the two
// apart and the names of the copied configs. The id is left out when empty.
func (d *deployment) renderTemplate(target *unstructured.Unstructured, s Selector, id string, names map[string]string) map[string]any {
	template, _ := withoutNulls(mapAt(target.Object, "spec", "template")).(map[string]any)
	labels := filtered(mapAt(template, "metadata", "labels"))
	labels[s.Label] = s.PrimaryValue()
	annotations := filtered(mapAt(template, "metadata", "annotations"))
	delete(annotations, idAnnotation)
	if id != "" {
		annotations[idAnnotation] = id
	}
	metadata := mapAt(template, "metadata")
	if metadata == nil {
		metadata = map[string]any{}
		template["metadata"] = metadata
	}
	metadata["labels"], metadata["annotations"] = labels, annotations
	d.adapt(mapAt(template, "spec"), byName(target.GetName(), d.options.SelectorLabels))
	renameConfigs(mapAt(template, "spec"), names)
	return template
}

func filtered(from map[string]any) map[string]any {
	to := make(map[string]any, len(from)+1)
	for key, value := range from {
		if copiesPodKey(key) {
			to[key] = value
		}
	}
	return to
}

// newID is the flagger-id of the pods of a revision. It follows from the template and from the configs that the pods read
// at start, so that a promotion done twice starts them once.
func newID(revision rollout.Revision) string {
	identity := fingerprint.Revision(revision.Fingerprint, revision.Configs)
	return uuid.NewHash(sha256.New(), uuid.Nil, []byte(identity), 8).String()
}

func idOf(template map[string]any) string {
	return stringAt(template, "metadata", "annotations", idAnnotation)
}

// recordedCopy returns what is recorded on the primary about the revision that it was made from, if its template is still
// the one that was written then.
func recordedCopy(primary *unstructured.Unstructured, templateFingerprint string) string {
	return recordedAs(primary, templateFingerprint, func() ([]string, error) { return fingerprint.Copy(primary.Object) })
}

// recordedAs is recordedCopy with the forms in which the template may be recorded.
func recordedAs(primary *unstructured.Unstructured, templateFingerprint string, forms func() ([]string, error)) string {
	written := annotationAt(primary, primaryTemplateAnnotation)
	if templateFingerprint == "" || written == "" {
		return ""
	}
	known, err := forms()
	if err != nil || !slices.Contains(known, written) {
		return ""
	}
	return annotationAt(primary, promotedRevisionAnnotation)
}

// writtenFingerprint identifies the pod template of a primary, whatever tools have put on it since to start its pods anew: new pods
// with the same content are no change of what was promoted.
func writtenFingerprint(primary *unstructured.Unstructured) (string, error) {
	forms, err := fingerprint.Copy(primary.Object)
	if err != nil {
		return "", fmt.Errorf("%s: fingerprint: %w", described(primary), err)
	}
	return forms[0], nil
}

// edited is whether a primary that counts as a copy of nothing was changed since it was made. Without a record, or with one in
// another form, nobody knows.
func edited(primary *unstructured.Unstructured, copied string) bool {
	return copied == "" && fingerprint.IsOurs(annotationAt(primary, primaryTemplateAnnotation))
}

// sameTemplate is whether the primary's template is what would be made of the target now, whatever its flagger-id. Both are
// as the server returned them, with all defaults.
func (d *deployment) sameTemplate(c *v1beta1.Canary, target, primary *unstructured.Unstructured, s Selector, names map[string]string) bool {
	present := mapAt(primary.Object, "spec", "template")
	if c.HasOwnPrimary() {
		return fingerprint.IsCopy(present, d.renderInto(target, primary))
	}
	return fingerprint.IsCopy(present, d.renderTemplate(target, s, idOf(present), names))
}

// newPrimary is a primary to create.
func (d *deployment) newPrimary(c *v1beta1.Canary, src source) (*unstructured.Unstructured, error) {
	p := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1",
		"kind":       d.kind,
		"metadata":   map[string]any{"name": PrimaryName(c), "namespace": c.Namespace},
		"spec": map[string]any{
			"selector": map[string]any{"matchLabels": map[string]any{src.selector.Label: src.selector.PrimaryValue()}},
		},
	}}
	if d.counted {
		mapAt(p.Object, "spec")["replicas"] = max(src.replicas, 1)
	}
	return p, d.fill(c, src, p, newID(src.revision))
}

// nextPrimary is what a present primary should become.
func (d *deployment) nextPrimary(c *v1beta1.Canary, src source, present *unstructured.Unstructured) (
	*unstructured.Unstructured, error) {
	p := present.DeepCopy()
	hash, err := templateFingerprint(present)
	if err != nil {
		return nil, err
	}
	if c.HasOwnPrimary() {
		return p, d.copyInto(c, src, p, recordedCopy(present, hash))
	}
	// With an autoscaler the number of pods is the autoscaler's. A target without pods says nothing about how many the
	// primary needs.
	if d.counted && c.Spec.AutoscalerRef == nil && intAt(src.target.Object, 1, "spec", "replicas") > 0 {
		if err := unstructured.SetNestedField(p.Object, src.replicas, "spec", "replicas"); err != nil {
			return nil, fmt.Errorf("%s: spec.replicas: %w", described(p), err)
		}
	}
	recorded := recordedCopy(present, hash)
	sameConfigs := startedWith(c, present, recorded, src.revision)
	if sameConfigs && recorded == src.revision.Fingerprint {
		// The stored template counts even where it is not what would be rendered: an admission webhook may have added to
		// it, or an older version of this program rendered it.
		return p, d.fillAround(c, src, p)
	}
	if sameConfigs && d.sameTemplate(c, src.target, present, src.selector, src.names) {
		// Marks of other tools stay, or the pods would start once more.
		return p, d.fillRecords(c, src, p)
	}
	return p, d.fill(c, src, p, newID(src.revision))
}

// startedWith is whether the pods of a primary were started with the configs of a revision. What Flagger started counts as
// promoted.
func startedWith(c *v1beta1.Canary, primary *unstructured.Unstructured, recorded string, revision rollout.Revision) bool {
	if len(revision.Configs) == 0 {
		return true
	}
	if recorded != "" {
		return maps.Equal(recordedConfigs(primary), revision.Configs)
	}
	promoted := promotedOf(c)
	return promoted != nil && maps.Equal(promoted.Configs, revision.Configs)
}

// fill writes everything of ours into a primary.
func (d *deployment) fill(c *v1beta1.Canary, src source, p *unstructured.Unstructured, id string) error {
	mapAt(p.Object, "spec")["template"] = d.renderTemplate(src.target, src.selector, id, src.names)
	return d.fillRecords(c, src, p)
}

// fillRecords writes everything of ours but the pod template, and what that was made from.
func (d *deployment) fillRecords(c *v1beta1.Canary, src source, p *unstructured.Unstructured) error {
	if err := d.fillAround(c, src, p); err != nil {
		return err
	}
	if err := recordConfigs(p, src.revision.Configs); err != nil {
		return err
	}
	return record(p, src.revision.Fingerprint)
}

// fillAround writes everything of ours but the pod template.
func (d *deployment) fillAround(c *v1beta1.Canary, src source, p *unstructured.Unstructured) error {
	prefixes := d.options.IncludeLabelPrefix
	p.SetLabels(primaryLabels(p.GetLabels(), src.target.GetLabels(), src.selector, prefixes))
	p.SetAnnotations(primaryAnnotations(p.GetAnnotations(), src.target.GetAnnotations(), prefixes))
	own(c, p)
	to, from := mapAt(p.Object, "spec"), mapAt(src.target.Object, "spec")
	if to == nil || from == nil {
		return fmt.Errorf("%s: no spec", described(p))
	}
	for field := range to {
		if _, ok := from[field]; !ok && mirrorsField(field) {
			delete(to, field)
		}
	}
	for field, value := range from {
		if mirrorsField(field) && value != nil {
			to[field] = runtime.DeepCopyJSONValue(value)
		}
	}
	return nil
}

// mirrorsField is whether a field of the spec of a target is copied as it is: progressDeadlineSeconds, minReadySeconds,
// revisionHistoryLimit, strategy and whatever a later version of Kubernetes adds. A target is paused in order to change it
// without effect, which is not meant for the primary.
func mirrorsField(field string) bool {
	switch field {
	case "template", "selector", "replicas", "paused":
		return false
	}
	return true
}

// record notes on a primary what its template was made from.
func record(p *unstructured.Unstructured, revision string) error {
	hash, err := writtenFingerprint(p)
	if err != nil {
		return err
	}
	annotations := p.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[promotedRevisionAnnotation], annotations[primaryTemplateAnnotation] = revision, hash
	p.SetAnnotations(annotations)
	return nil
}

// orphaned is whether an object belongs to a Canary of the same name that is gone.
func orphaned(c *v1beta1.Canary, obj *unstructured.Unstructured) bool {
	owner := metav1.GetControllerOf(obj)
	return owner != nil && owner.Kind == "Canary" && owner.Name == c.Name && owner.UID != c.UID
}

// own makes the Canary the controller of an object, unless something else is.
func own(c *v1beta1.Canary, obj *unstructured.Unstructured) {
	refs := obj.GetOwnerReferences()
	wanted := *metav1.NewControllerRef(c, v1beta1.SchemeGroupVersion.WithKind("Canary"))
	for i := range refs {
		if refs[i].Controller == nil || !*refs[i].Controller {
			continue
		}
		// A Canary that was restored from a backup has another UID.
		if refs[i].Kind == wanted.Kind && refs[i].Name == wanted.Name && refs[i].UID != wanted.UID {
			refs[i] = wanted
			obj.SetOwnerReferences(refs)
		}
		return
	}
	obj.SetOwnerReferences(append(refs, wanted))
}
