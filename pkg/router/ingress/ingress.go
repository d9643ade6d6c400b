// Package ingress is what providers share that put a second Ingress beside that of a user (spec.ingressRef). The user's is
// read and never written.
package ingress

import (
	"fmt"
	"maps"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// DropAnnotation on a Canary lists annotations of the user's Ingress that its copy must not have, separated by commas. One that
// ends in * stands for all that begin so. Without it every annotation is copied.
const DropAnnotation = "ingress.flagger.app/drop-annotations"

// NamedBy is the field of the Canary that names its Ingresses.
const NamedBy = "spec.ingressRef.name"

// Ref names an Ingress. Whatever version spec.ingressRef asks for, it is served as networking.k8s.io/v1.
func Ref(namespace, name string) router.Ref {
	return router.RefTo("networking.k8s.io", "v1", "Ingress", "ingresses").Of(namespace, name)
}

// Source names the Ingress of the user, and Canary the one beside it.
func Source(c *v1beta1.Canary) router.Ref { return Ref(c.Namespace, refName(c)) }

// Canary names the Ingress that is made beside that of the user.
func Canary(c *v1beta1.Canary) router.Ref {
	return Ref(c.Namespace, refName(c)+v1beta1.CanarySuffix)
}

// OfService names the Ingress that is made where others are made beside that of the user as well.
func OfService(c *v1beta1.Canary) router.Ref {
	return Ref(c.Namespace, refName(c)+"-"+router.NamesOf(c).Apex+v1beta1.CanarySuffix)
}

// Names are those that the Ingress of a Canary may have.
func Names(c *v1beta1.Canary) []router.Ref {
	if c.SharesIngress() {
		return []router.Ref{Canary(c), OfService(c)}
	}
	return []router.Ref{Canary(c)}
}

// Made names the Ingress of a Canary. One that is there keeps its name when the annotation comes or goes: until it was deleted, another
// one would be a second canary of the same paths.
func Made(c *v1beta1.Canary, live router.Live) (router.Ref, error) {
	for _, ref := range []router.Ref{Canary(c), OfService(c)} {
		o, err := live.Get(ref)
		if err != nil {
			return ref, fmt.Errorf("%s: %w", ref, err)
		}
		if o != nil && router.ControlOf(c, o) == router.Ours {
			return ref, nil
		}
	}
	if c.SharesIngress() {
		return OfService(c), nil
	}
	return Canary(c), nil
}

// Sharing is what a Canary whose Ingress another one has can do.
const Sharing = "or set the annotation " + v1beta1.OwnPathsAnnotation + ": \"true\" on both, so that each copies its own paths"

func refName(c *v1beta1.Canary) string {
	if c.Spec.IngressRef == nil {
		return ""
	}
	return c.Spec.IngressRef.Name
}

// Sources is the Ingress of the user, if the Canary names one.
func Sources(c *v1beta1.Canary) []router.Ref {
	if refName(c) == "" {
		return nil
	}
	return []router.Ref{Source(c)}
}

// Read returns the Ingress of the user. Its absence is a fault of the Canary.
func Read(c *v1beta1.Canary, live router.Live) (*unstructured.Unstructured, error) {
	if refName(c) == "" {
		return nil, &router.FieldError{Field: NamedBy, Message: "is missing: name the Ingress that exposes the target"}
	}
	ref := Source(c)
	o, err := live.Get(ref)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	if o == nil {
		return nil, &router.FieldError{Field: NamedBy, Message: fmt.Sprintf(
			"%s does not exist: create it with a path to the Service %s, or correct the name", ref, router.NamesOf(c).Apex)}
	}
	return o, nil
}

// Copy is what becomes of the Ingress of the user beside it.
type Copy struct {
	// Spec and Annotations are those of the user's, to be changed. The annotations are without those that are not copied, and with
	// those that keep Flux away.
	Spec        map[string]any
	Annotations map[string]string
	source      *unstructured.Unstructured
}

// NewCopy reads the Ingress of the user.
func NewCopy(c *v1beta1.Canary, live router.Live) (*Copy, error) {
	source, err := Read(c, live)
	if err != nil {
		return nil, err
	}
	spec, ok := source.Object["spec"].(map[string]any)
	if !ok {
		spec = map[string]any{}
	}
	k := &Copy{Spec: runtime.DeepCopyJSON(spec), Annotations: annotations(c, source), source: source}
	k.resolveClass()
	if c.SharesIngress() {
		keepOwnPaths(k.Spec, router.NamesOf(c).Apex)
	}
	return k, nil
}

// keepOwnPaths leaves nothing in the spec of an Ingress but what leads to one Service.
func keepOwnPaths(spec map[string]any, name string) {
	leads := func(backend any) bool { _, ok := Service(backend, name); return ok }
	if !leads(spec["defaultBackend"]) {
		delete(spec, "defaultBackend")
	}
	var rules []any
	for _, rule := range objects(spec["rules"]) {
		http, ok := rule["http"].(map[string]any)
		if !ok {
			continue
		}
		var paths []any
		for _, path := range Paths(http) {
			if leads(path["backend"]) {
				paths = append(paths, path)
			}
		}
		if http["paths"] = paths; len(paths) > 0 {
			rules = append(rules, rule)
		}
	}
	if spec["rules"] = rules; len(rules) == 0 {
		delete(spec, "rules")
	}
}

// classAnnotation is the older form of spec.ingressClassName.
const classAnnotation = "kubernetes.io/ingress.class"

// resolveClass leaves one of two classes that differ. An Ingress may have them once its user has added the newer form, and the API server
// creates none with them. The annotation is the one that counts then.
func (k *Copy) resolveClass() {
	class, both := k.Annotations[classAnnotation]
	if both && k.Spec["ingressClassName"] != class {
		delete(k.Spec, "ingressClassName")
	}
}

// Clone returns a copy of the same Ingress, of which several are made.
func (k *Copy) Clone() *Copy {
	return &Copy{Spec: runtime.DeepCopyJSON(k.Spec), Annotations: maps.Clone(k.Annotations), source: k.source}
}

// Complete fills in the outline of the copy. All fields of the spec are ours, and so are those annotations which begin with prefix
// and that nobody wants any more.
func (k *Copy) Complete(live router.Live, outline router.Object, prefix string) (router.Object, error) {
	stale, err := staleAnnotations(outline.Ref, live, k.Annotations, prefix)
	if err != nil {
		return outline, err
	}
	// A copy loses these with the Ingress that it was made from.
	fields := map[string]bool{"rules": true, "tls": true, "defaultBackend": true, "ingressClassName": true}
	for name := range k.Spec {
		fields[name] = true
	}
	for name := range fields {
		stale = append(stale, []string{"spec", name})
	}
	outline.Wanted = router.NewObject(outline.Ref, k.source.GetLabels(), k.Annotations, k.Spec)
	outline.Owned = append(stale, outline.Owned...)
	return outline, nil
}

// NoBackend is the fault of an Ingress that leads nothing to the Service of the Canary.
func NoBackend(c *v1beta1.Canary) error {
	return &router.FieldError{Field: NamedBy, Message: fmt.Sprintf(
		"%s has no path to the Service %s: add one, or correct the name or spec.service.name", Source(c), router.NamesOf(c).Apex)}
}

// HTTPRules returns the http part of each rule of an Ingress that has one.
func HTTPRules(spec map[string]any) []map[string]any {
	var all []map[string]any
	for _, rule := range objects(spec["rules"]) {
		if http, ok := rule["http"].(map[string]any); ok {
			all = append(all, http)
		}
	}
	return all
}

// Paths returns the paths of the http part of a rule.
func Paths(http map[string]any) []map[string]any { return objects(http["paths"]) }

func objects(list any) []map[string]any {
	items, _ := list.([]any) //nolint:errcheck // what is no list has no items
	var all []map[string]any
	for _, item := range items {
		if o, ok := item.(map[string]any); ok {
			all = append(all, o)
		}
	}
	return all
}

// Service returns the service of a backend if that leads to the Service of a name.
func Service(backend any, name string) (map[string]any, bool) {
	b, ok := backend.(map[string]any)
	if !ok {
		return nil, false
	}
	service, ok := b["service"].(map[string]any)
	return service, ok && service["name"] == name
}

func annotations(c *v1beta1.Canary, source *unstructured.Unstructured) map[string]string {
	drop := strings.Split(c.Annotations[DropAnnotation], ",")
	copied := map[string]string{}
	for name, value := range source.GetAnnotations() {
		if name != router.KubectlAnnotation && name != router.OriginalAnnotation && !dropped(name, drop) {
			copied[name] = value
		}
	}
	maps.Copy(copied, router.ToolkitAnnotations())
	return copied
}

func dropped(name string, patterns []string) bool {
	for _, pattern := range patterns {
		pattern = strings.TrimSpace(pattern)
		prefix, isPrefix := strings.CutSuffix(pattern, "*")
		if name == pattern || isPrefix && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// staleAnnotations are the paths of annotations with a prefix that a copy has, as it is, and nobody wants. Those are left
// from annotations that the user has removed since. What others set, with other prefixes, stays.
func staleAnnotations(ref router.Ref, live router.Live, wanted map[string]string, prefix string) ([][]string, error) {
	copied, err := live.Get(ref)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	if copied == nil {
		return nil, nil
	}
	var stale [][]string
	for name := range copied.GetAnnotations() {
		if _, ok := wanted[name]; !ok && strings.HasPrefix(name, prefix+"/") {
			stale = append(stale, AnnotationPath(name))
		}
	}
	return stale, nil
}

// AnnotationPath is where an annotation stands in an object.
func AnnotationPath(name string) []string { return []string{"metadata", "annotations", name} }
