package router

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Previous are the routing objects of a Canary under a previous name, or of a previous provider.
type Previous struct {
	// Ours are those that the Canary owns, what leads to others first.
	Ours []Ref
	// Originals are those of users as they were before they were taken over.
	Originals []Object
}

// PreviousOf looks at the objects that a provider made for a Canary whose Service had another name, or before the Canary got
// another provider. Present are the objects that the Canary has now, which are none of them. Served tells whether objects of a
// kind can exist.
func PreviousOf(c *v1beta1.Canary, p Provider, name string, present []Object, served func(Ref) bool, live Live) (Previous, error) {
	var f Previous
	rendered, err := Outline(c, p, name, live)
	if err != nil {
		return f, err
	}
	rendered = slices.DeleteFunc(rendered, func(o Object) bool {
		isThis := func(other Object) bool { return sameObject(o.Ref, other.Ref) }
		return !served(o.Ref) || slices.ContainsFunc(present, isThis)
	})
	for _, o := range slices.Backward(rendered) {
		current, err := live.Get(o.Ref)
		if err != nil {
			return Previous{}, fmt.Errorf("%s: %w", o.Ref, err)
		}
		if current != nil && current.GetDeletionTimestamp() == nil && Owns(c, current) {
			f.Ours = append(f.Ours, o.Ref)
		}
	}
	f.Originals, err = Originals(c, rendered, live)
	return f, err
}

// Outline returns the objects of a Canary whose Service has a name, with nothing that depends on the rest of its spec or on
// objects of users: enough to find them, to delete them and to give them back.
func Outline(c *v1beta1.Canary, p Provider, name string, live Live) ([]Object, error) {
	if outliner, ok := p.(Outliner); ok {
		return outliner.Outline(under(c, name)), nil
	}
	return p.Render(under(c, name), Traffic{Primary: 100}, live)
}

// Leave returns the route of a user, which the Canary names, as it is to be left when another one takes its place: with all traffic on
// the primary. There is nothing to leave in a route that is gone, or has no rule for both sides any more.
func Leave(c *v1beta1.Canary, p Provider, live Live) ([]Object, error) {
	objects, err := For(p, c).Render(c, Traffic{Primary: 100}, live)
	var fault *FieldError
	if errors.As(err, &fault) {
		return nil, nil
	}
	for i := range objects {
		o := &objects[i]
		// What was kept of it would be out of date by the time it is named again.
		o.Owned, o.KeepOriginal = append(slices.Clone(o.Owned), []string{"metadata", "annotations", OriginalAnnotation}), false
	}
	return objects, err
}

// sameObject is whether two references are to one object, be it in two versions of its API.
func sameObject(a, b Ref) bool {
	return a.Resource.GroupResource() == b.Resource.GroupResource() && a.Namespace == b.Namespace && a.Name == b.Name
}

// under returns a Canary with just what names its objects. What a user has removed since must not keep a provider from naming
// them, so fields that a provider insists on have some value.
func under(c *v1beta1.Canary, name string) *v1beta1.Canary {
	return &v1beta1.Canary{
		TypeMeta:   c.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{Name: c.Name, Namespace: c.Namespace, UID: c.UID, Annotations: c.Annotations},
		Spec: v1beta1.CanarySpec{
			TargetRef:  c.Spec.TargetRef,
			IngressRef: c.Spec.IngressRef,
			RouteRef:   c.Spec.RouteRef,
			Service: v1beta1.CanaryService{
				Name: name, Port: max(1, c.Spec.Service.Port), MeshName: cmp.Or(c.Spec.Service.MeshName, name),
				GatewayRefs: []v1beta1.ParentReference{{Name: name}},
			},
			Analysis: &v1beta1.CanaryAnalysis{Interval: "1m"},
		},
	}
}
