package router

import (
	"maps"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Annotations that keep Flux from reverting what the operator writes.
const (
	KustomizeReconcileAnnotation = "kustomize.toolkit.fluxcd.io/reconcile"
	HelmDriftAnnotation          = "helm.toolkit.fluxcd.io/driftDetection"
	disabled                     = "disabled"
)

// Names are the names of the three Services of a Canary.
type Names struct {
	// Apex is the Service that clients use, Primary and Canary those of the two sides.
	Apex, Primary, Canary string
}

// NamesOf derives the names of the Services: from spec.service.name, by default the name of the target.
func NamesOf(c *v1beta1.Canary) Names {
	apex, primary, canary := c.GetServiceNames()
	return Names{Apex: apex, Primary: primary, Canary: canary}
}

// defaultInterval is the interval of an analysis that sets none, or one that is not a duration.
const defaultInterval = v1beta1.DefaultAnalysisInterval

// analysisInterval is the interval of the analysis.
func analysisInterval(c *v1beta1.Canary) time.Duration {
	d, err := time.ParseDuration(c.GetAnalysis().Interval)
	if err != nil || d <= 0 {
		return defaultInterval
	}
	return d
}

// IsTCP tells whether the Canary asks for routing of connections instead of requests (service.appProtocol: tcp).
func IsTCP(c *v1beta1.Canary) bool {
	return strings.EqualFold(c.Spec.Service.AppProtocol, "tcp")
}

// PathPrefix is the path that routes serve which know a prefix alone: that of the first match of the Service, by default "/".
func PathPrefix(c *v1beta1.Canary) string {
	if match := c.Spec.Service.Match; len(match) > 0 && match[0].URI != nil && match[0].URI.Prefix != "" {
		return match[0].URI.Prefix
	}
	return "/"
}

// ToolkitAnnotations are on every object that the operator makes: they keep Flux from reverting it.
func ToolkitAnnotations() map[string]string {
	return map[string]string{KustomizeReconcileAnnotation: disabled, HelmDriftAnnotation: disabled}
}

// Annotated returns the annotations of a CustomMetadata, which may be nil, with the toolkit annotations added.
func Annotated(m *v1beta1.CustomMetadata) map[string]string {
	all := map[string]string{}
	if m != nil {
		maps.Copy(all, m.Annotations)
	}
	maps.Copy(all, ToolkitAnnotations())
	return all
}

// NewWanted builds a wanted object with the metadata that all routing objects share: the labels and annotations of
// spec.service.apex and the toolkit annotations.
func NewWanted(c *v1beta1.Canary, ref Ref, spec map[string]any) *unstructured.Unstructured {
	var labels map[string]string
	if c.Spec.Service.Apex != nil {
		labels = c.Spec.Service.Apex.Labels
	}
	return NewObject(ref, labels, Annotated(c.Spec.Service.Apex), spec)
}

// NewObject builds an unstructured object of the kind and name of ref. Nil maps are left out.
func NewObject(ref Ref, labels, annotations map[string]string, spec map[string]any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetGroupVersionKind(ref.GroupVersionKind())
	u.SetNamespace(ref.Namespace)
	u.SetName(ref.Name)
	if len(labels) > 0 {
		u.SetLabels(labels)
	}
	if len(annotations) > 0 {
		u.SetAnnotations(annotations)
	}
	if spec != nil {
		u.Object["spec"] = spec
	}
	return u
}

// OwnerAnnotation names, as name/uid, the Canary that an object was made for which can't have an owner reference because it is in
// another cluster. For a cluster-scoped object it is namespace/name/uid.
const OwnerAnnotation = "flagger.app/owner"

// Control says who controls an object.
type Control int

// The answers of ControlOf.
const (
	// Foreign objects have no controller, or one that is not a Canary, and were not made for one.
	Foreign Control = iota
	// Ours are objects that this Canary controls.
	Ours
	// OtherCanary are objects that another Canary controls.
	OtherCanary
)

// ControlOf tells whether a Canary controls a live object. The UID is not compared, so that objects of a Canary that was
// restored from a backup are still its own.
func ControlOf(c *v1beta1.Canary, live *unstructured.Unstructured) Control {
	name, _ := controllerOf(live)
	switch name {
	case "":
		return Foreign
	case nameFor(c, live.GetNamespace()):
		return Ours
	default:
		return OtherCanary
	}
}

// controllerOf names the Canary that an object belongs to: its controller or, where an owner reference would lead nowhere, the one
// that it was made for. The name is empty for any other object, and begins with a namespace for a cluster-scoped one.
func controllerOf(live *unstructured.Unstructured) (name string, uid types.UID) {
	owner := metav1.GetControllerOf(live)
	if owner == nil {
		mark := live.GetAnnotations()[OwnerAnnotation]
		end := max(0, strings.LastIndex(mark, "/"))
		return mark[:end], types.UID(strings.TrimPrefix(mark[end:], "/"))
	}
	if owner.Kind != v1beta1.CanaryKind || !strings.HasPrefix(owner.APIVersion, v1beta1.GroupName+"/") {
		return "", ""
	}
	return owner.Name, owner.UID
}

// nameFor is how a Canary is named as the owner of an object in a namespace, or in none.
func nameFor(c *v1beta1.Canary, namespace string) string {
	if namespace == "" {
		return c.Namespace + "/" + c.Name
	}
	return c.Name
}

// OwnerMark is the value of OwnerAnnotation for an object in a namespace, or in none.
func OwnerMark(c *v1beta1.Canary, namespace string) string {
	return nameFor(c, namespace) + "/" + string(c.UID)
}

// Owns tells whether a Canary, and not an earlier one of the same name, controls a live object.
func Owns(c *v1beta1.Canary, live *unstructured.Unstructured) bool {
	name, uid := controllerOf(live)
	return name == nameFor(c, live.GetNamespace()) && uid == c.UID
}

// ownerReference makes a Canary the controller of an object.
func ownerReference(c *v1beta1.Canary) metav1.OwnerReference {
	return *metav1.NewControllerRef(c, v1beta1.SchemeGroupVersion.WithKind(v1beta1.CanaryKind))
}
