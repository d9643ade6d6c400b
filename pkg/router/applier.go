package router

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Annotations that hold what an object was before the operator took it over.
const (
	// OriginalAnnotation holds the spec, as JSON, that a user's object had when it was first taken over.
	OriginalAnnotation = "flagger.kubernetes.io/original-configuration"
	// KubectlAnnotation holds the object as kubectl apply last sent it.
	KubectlAnnotation = "kubectl.kubernetes.io/last-applied-configuration"
)

// Change is one write that would make the cluster as wanted.
type Change struct {
	Ref Ref
	Op  Op
	// Body is the whole object for Create, a JSON merge patch for Update.
	Body map[string]any
	// Undone numbers our last write of the same state, which somebody else has undone since. It is 0 for a state that was not
	// written before.
	Undone int
}

// Fields lists the paths that an Update changes, in order. Lists are changed as a whole.
func (c *Change) Fields() [][]string {
	if c.Op != Update {
		return nil
	}
	paths := leaves(c.Body, nil)
	paths = slices.DeleteFunc(paths, func(path []string) bool { return slices.Equal(path, []string{"metadata", "resourceVersion"}) })
	slices.SortFunc(paths, slices.Compare[[]string])
	return paths
}

// version is the resource version that an Update builds on.
func (c *Change) version() string {
	return (&unstructured.Unstructured{Object: c.Body}).GetResourceVersion()
}

// Applier makes objects of the cluster as wanted. It reads from informers only, writes only differences and leaves
// everything that isn't ours alone. It is safe for concurrent use.
type Applier struct {
	client  dynamic.Interface
	live    Live
	answers *answers
}

// NewApplier returns an Applier that reads from live and writes through client.
func NewApplier(client dynamic.Interface, live Live) *Applier {
	return &Applier{client: client, live: live, answers: newAnswers()}
}

// Reading returns an Applier that reads from live instead, and shares all else.
func (a *Applier) Reading(live Live) *Applier {
	return &Applier{client: a.client, live: live, answers: a.answers}
}

// Memory identifies what an Applier remembers of its own writes of an object. As long as it stays, and the object at its version, Diff
// comes to the same result.
type Memory struct {
	// write is the number of the last write, 0 for a state that is wanted no more, and -1 if nothing is known.
	write int
	// ahead is whether the informers may lag behind it.
	ahead bool
}

// Memory returns what is remembered of an object at the moment.
func (a *Applier) Memory(ref Ref) Memory { return a.answers.memory(ref) }

// Get returns an object as the informers last saw it or, where they lag behind, as the last patch of this Applier left
// it. So an Applier is a Live that reads its own writes.
func (a *Applier) Get(ref Ref) (*unstructured.Unstructured, error) {
	live, err := a.live.Get(ref)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	return a.answers.newest(ref, live), nil
}

// Diff tells what Apply would write, without any call to the API server. An empty result means that all is in place.
func (a *Applier) Diff(c *v1beta1.Canary, objects []Object) ([]Change, error) {
	var changes []Change
	for i := range objects {
		change, err := a.diff(c, &objects[i])
		if err != nil {
			return nil, err
		}
		if change != nil {
			changes = append(changes, *change)
		}
	}
	return changes, nil
}

// Apply makes the objects as wanted, in their order, and stops at the first failure. A *WriteError says which write
// failed; see IsStale for those that only need to be repeated.
func (a *Applier) Apply(ctx context.Context, c *v1beta1.Canary, objects []Object) error {
	for i := range objects {
		change, err := a.diff(c, &objects[i])
		if err != nil {
			return err
		}
		if change == nil {
			continue
		}
		if err := a.Write(ctx, c, &objects[i], change); err != nil {
			return err
		}
	}
	return nil
}

// Write makes a change that Diff has told of, about an object that was wanted. It fails as Apply does.
func (a *Applier) Write(ctx context.Context, c *v1beta1.Canary, o *Object, change *Change) error {
	if err := a.write(ctx, c, o, change); err != nil {
		return &WriteError{Ref: change.Ref, Op: change.Op, Err: err}
	}
	return nil
}

func (a *Applier) diff(c *v1beta1.Canary, o *Object) (*Change, error) {
	live, err := a.Get(o.Ref)
	if err != nil {
		return nil, err
	}
	if live == nil && o.Named {
		return nil, &FieldError{Field: o.NamedBy, Message: fmt.Sprintf("%s does not exist: create it, or correct the name", o.Ref)}
	}
	if live == nil {
		wanted := shareOf(o.Wanted.Object, o.Owned, ownKeys(o, Ours))
		return &Change{Ref: o.Ref, Op: Create, Body: newBody(c, o), Undone: a.answers.writtenAs(o.Ref, wanted)}, nil
	}
	control := ControlOf(c, live)
	if control == OtherCanary {
		owner, _ := controllerOf(live)
		message := fmt.Sprintf("%s belongs to Canary %s: set a name that no other Canary of the namespace uses", o.Ref, owner)
		if o.OrElse != "" {
			message += ", " + o.OrElse
		}
		return nil, &FieldError{Field: cmp.Or(o.NamedBy, "spec.service.name"), Message: message}
	}
	if control == Ours && o.Named {
		return nil, &FieldError{Field: o.NamedBy, Message: fmt.Sprintf("%s was made for this Canary and goes with it: name a route of your "+
			"own, or remove its owner reference to make it that", o.Ref)}
	}
	wanted, actual := shares(o, live, control)
	patch, undone := mergePatch(actual, wanted), 0
	// What is as wanted, as almost all is almost always, need not be as the server left it.
	if len(patch) > 0 {
		if a.answers.accepts(o.Ref, live.GetUID(), wanted, actual) {
			patch = map[string]any{}
		} else {
			undone = a.answers.writtenAs(o.Ref, wanted)
		}
	}
	refreshOwner(patch, c, o, live, control)
	if len(patch) == 0 {
		return nil, nil
	}
	if o.KeepOriginal && control == Foreign {
		if err := keepOriginal(patch, live); err != nil {
			return nil, fmt.Errorf("%s: %w", o.Ref, err)
		}
	}
	// The API server refuses a patch that names another version: nothing is written on top of what nobody has seen.
	setPath(patch, []string{"metadata", "resourceVersion"}, live.GetResourceVersion())
	return &Change{Ref: o.Ref, Op: Update, Body: patch, Undone: undone}, nil
}

// shares returns the parts of the wanted and of a live object that are compared.
func shares(o *Object, live *unstructured.Unstructured, control Control) (wanted, actual share) {
	keys := ownKeys(o, control)
	wanted = shareOf(o.Wanted.Object, o.Owned, keys)
	actual = shareOf(live.Object, o.Owned, keys)
	if o.ExactMetadata != nil && control == Ours {
		addStrayMetadata(actual, live, o)
	}
	return wanted, actual
}

// newBody is the object to create. Flux leaves it alone from then on, also where the provider asks for no such annotations: on objects that
// Flagger has made without them they would be a write at the takeover.
func newBody(c *v1beta1.Canary, o *Object) map[string]any {
	body := o.Wanted.DeepCopy()
	body.SetGroupVersionKind(o.Ref.GroupVersionKind())
	body.SetNamespace(o.Ref.Namespace)
	body.SetName(o.Ref.Name)
	for name, value := range ToolkitAnnotations() {
		setPath(body.Object, []string{"metadata", "annotations", name}, value)
	}
	if o.Unowned {
		setPath(body.Object, []string{"metadata", "annotations", OwnerAnnotation}, OwnerMark(c, o.Ref.Namespace))
	} else {
		body.SetOwnerReferences([]metav1.OwnerReference{ownerReference(c)})
	}
	return body.Object
}

// ownKeys lists the labels and annotations of a live object that are compared.
func ownKeys(o *Object, control Control) metadataKeys {
	keys := metadataKeys{}
	if o.ExactMetadata != nil && control != Ours {
		annotations := o.Wanted.GetAnnotations()
		for name := range annotations {
			if !slices.Contains(o.ExactMetadata.AdoptedAnnotations, name) {
				delete(annotations, name)
			}
		}
		keys.add("annotations", annotations)
		return keys
	}
	keys.add("labels", o.Wanted.GetLabels())
	keys.add("annotations", o.Wanted.GetAnnotations())
	if o.ExactMetadata != nil {
		// Whoever lists a key as unmanaged keeps its live value, even if the Canary wants another one.
		for _, name := range o.ExactMetadata.KeepLabels {
			delete(keys["labels"], name)
		}
		for _, name := range o.ExactMetadata.KeepAnnotations {
			delete(keys["annotations"], name)
		}
	}
	return keys
}

// addStrayMetadata adds the live labels and annotations that nothing wants, so that the patch removes them.
func addStrayMetadata(actual share, live *unstructured.Unstructured, o *Object) {
	add := func(field string, all map[string]string, keep []string) {
		for name, value := range all {
			if name != OwnerAnnotation && !slices.Contains(keep, name) {
				setPath(actual, []string{"metadata", field, name}, value)
			}
		}
	}
	add("labels", live.GetLabels(), o.ExactMetadata.KeepLabels)
	add("annotations", live.GetAnnotations(), o.ExactMetadata.KeepAnnotations)
}

// refreshOwner replaces the owner reference, or the mark, of a Canary of the same name that is gone: the garbage collector would delete
// an object whose owner does not exist, for example after a restore from a backup.
func refreshOwner(patch map[string]any, c *v1beta1.Canary, o *Object, live *unstructured.Unstructured, control Control) {
	if control != Ours || Owns(c, live) {
		return
	}
	if metav1.GetControllerOf(live) == nil {
		setPath(patch, []string{"metadata", "annotations", OwnerAnnotation}, OwnerMark(c, o.Ref.Namespace))
		return
	}
	owners := live.GetOwnerReferences()
	for i := range owners {
		if owners[i].Controller != nil && *owners[i].Controller {
			owners[i] = ownerReference(c)
		}
	}
	holder := unstructured.Unstructured{Object: map[string]any{}}
	holder.SetOwnerReferences(owners)
	path := []string{"metadata", "ownerReferences"}
	if value, ok, err := unstructured.NestedFieldNoCopy(holder.Object, path...); ok && err == nil {
		setPath(patch, path, value)
	}
}

// keepOriginal adds the spec of a user's object to the patch, unless it is already kept, by us or by kubectl.
func keepOriginal(patch map[string]any, live *unstructured.Unstructured) error {
	annotations := live.GetAnnotations()
	_, byUs := annotations[OriginalAnnotation]
	_, byKubectl := annotations[KubectlAnnotation]
	spec, hasSpec := live.Object["spec"]
	if byUs || byKubectl || !hasSpec {
		return nil
	}
	raw, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("keep the original spec: %w", err)
	}
	setPath(patch, []string{"metadata", "annotations", OriginalAnnotation}, string(raw))
	return nil
}

func (a *Applier) write(ctx context.Context, c *v1beta1.Canary, o *Object, change *Change) error {
	var stored *unstructured.Unstructured
	var err error
	replaced := ""
	client := a.resource(o.Ref)
	switch change.Op {
	case Create:
		stored, err = client.Create(ctx, &unstructured.Unstructured{Object: change.Body}, metav1.CreateOptions{})
	case Update:
		var raw []byte
		if raw, err = json.Marshal(change.Body); err != nil {
			return err
		}
		replaced = change.version()
		stored, err = client.Patch(ctx, o.Ref.Name, types.MergePatchType, raw, metav1.PatchOptions{})
	default:
		return fmt.Errorf("%s is no write of an object that is wanted", change.Op)
	}
	if err != nil {
		return err
	}
	wanted, actual := shares(o, stored, ControlOf(c, stored))
	a.answers.remember(o.Ref, replaced, stored, wanted, actual)
	a.answers.sweep(a.live)
	return nil
}

func (a *Applier) resource(ref Ref) dynamic.ResourceInterface {
	if ref.Namespace == "" {
		return a.client.Resource(ref.Resource)
	}
	return a.client.Resource(ref.Resource).Namespace(ref.Namespace)
}
