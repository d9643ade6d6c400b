// Package router turns a Canary and the traffic it should get into the objects of a mesh or an ingress.
//
// A Provider does no I/O: it renders wanted objects and reads live ones. The Applier does all I/O, for every provider in
// the same way. Providers live in one small package each and are listed in package registry.
package router

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Traffic is what the routing objects of one Canary express, or should express.
type Traffic struct {
	// Primary and Canary are weights in percent. Their sum is 100.
	Primary, Canary int32
	// Mirror is whether a copy of the primary's requests goes to the canary, whose answers are dropped.
	Mirror bool
	// Matched is whether all that is about the requests that analysis.match picks, the others being for the primary. The
	// Canary has such a match then.
	Matched bool
	// Cookies pin clients to a side. They are empty unless the Canary asks for session affinity.
	Cookies Cookies
}

// Cookies are the session cookies in force, each as "name=value" or empty.
type Cookies struct {
	// Canary pins a client to the canary, Primary to the primary.
	Canary, Primary string
	// Previous is the canary cookie of the run before, which clients are told to drop.
	Previous string
}

func (t Traffic) String() string {
	s := fmt.Sprintf("%d/%d", t.Primary, t.Canary)
	if t.Mirror {
		s += "/mirrored"
	}
	if t.Matched {
		s += "/matched"
	}
	return s
}

// Ref names one live object.
type Ref struct {
	Resource schema.GroupVersionResource
	Kind     string
	// Namespace is empty for a cluster-scoped object.
	Namespace, Name string
}

func (r Ref) String() string {
	if r.Namespace == "" {
		return fmt.Sprintf("%s %s", r.Kind, r.Name)
	}
	return fmt.Sprintf("%s %s.%s", r.Kind, r.Name, r.Namespace)
}

// WithWorkloads is whether the objects of a resource are in the cluster of the workloads, wherever the control plane of the mesh is:
// those of Kubernetes itself and the Services of Knative, which are workloads.
func WithWorkloads(resource schema.GroupVersionResource) bool {
	switch resource.Group {
	case corev1.GroupName, networkingv1.GroupName, "serving.knative.dev":
		return true
	}
	return false
}

// RefTo returns a Ref to objects of a kind, without the name of one.
func RefTo(group, version, kind, resource string) Ref {
	return Ref{Resource: schema.GroupVersionResource{Group: group, Version: version, Resource: resource}, Kind: kind}
}

// Of names an object of the same kind. The namespace is empty for a cluster-scoped one.
func (r Ref) Of(namespace, name string) Ref {
	r.Namespace, r.Name = namespace, name
	return r
}

// GroupVersionKind is the kind in the form that objects carry.
func (r Ref) GroupVersionKind() schema.GroupVersionKind {
	return r.Resource.GroupVersion().WithKind(r.Kind)
}

// Object is one wanted object and the share of it that is ours.
type Object struct {
	Ref Ref
	// Wanted holds the labels and annotations to ensure and the owned fields, all with the defaults of the API server
	// spelled out, so that a stored copy compares equal.
	Wanted *unstructured.Unstructured
	// Owned lists the field paths (such as {"spec", "http"}) whose whole value is ours. A path that Wanted lacks is
	// removed from the live object. All other fields of a live object survive untouched.
	Owned [][]string
	// ExactMetadata makes labels and annotations of an object that this Canary controls exactly the wanted ones, but for
	// the kept keys. Without it they are merged and foreign keys survive.
	ExactMetadata *ExactMetadata
	// KeepOriginal stores the spec of a user's object in an annotation when it is first taken over, so that deletion of
	// the Canary can restore it.
	KeepOriginal bool
	// Named is whether the Canary names an object of the user's own: it is changed as long as it is there, and never made.
	Named bool
	// Restore turns, in place of the owned fields as they were, the spec of a live object into what is given back. It gets
	// the spec as it was before the object was taken over, and changes neither.
	Restore func(live, original map[string]any) (map[string]any, error)
	// Unowned leaves out the owner reference, for cluster-scoped objects and objects in another cluster.
	Unowned bool
	// Released are annotations that an object of a user's gets when it is given back, instead of losing those that are ours.
	Released map[string]string
	// Early is whether pods need the object before they can start.
	Early bool
	// NamedBy is the field of the Canary that the name comes from. Default: spec.service.name.
	NamedBy string
	// OrElse is what its user can do beside naming another one where another Canary has it, empty if there is nothing.
	OrElse string
}

// ExactMetadata lists the keys whose live values survive although nothing wants them.
type ExactMetadata struct {
	KeepLabels, KeepAnnotations []string
	// AdoptedAnnotations are the keys of the wanted annotations to ensure on an object that this Canary does not
	// control. Its other metadata is left alone.
	AdoptedAnnotations []string
}

// Live finds objects as the informers last saw them. A nil result means that the object does not exist.
type Live interface {
	Get(Ref) (*unstructured.Unstructured, error)
}

// Observed is what the live objects of a Canary express.
type Observed struct {
	Traffic Traffic
	// Settled is whether the data plane has taken over the objects, as far as the provider can report it.
	Settled bool
	// Silent is set when Settled is false only because reports are missing that may never come. A report that says no, or
	// that is about an earlier state of the objects, is none of these.
	Silent bool
	// Reason says what is missing when Settled is false.
	Reason string
}

// Abilities are what a provider can do beyond moving all traffic at once.
type Abilities struct {
	// Routes is set when the provider moves traffic at all. "kubernetes" doesn't: its apex Service selects the primary
	// throughout.
	Routes bool
	// Weights is set when traffic can be split by percent.
	Weights bool
	// Mirror, MirrorWeight, Match, CanaryMatch, SessionAffinity, PrimaryCookie and TCP stand for analysis.mirror,
	// analysis.mirrorWeight, analysis.match, analysis.canaryMatch, analysis.sessionAffinity, its primaryCookieName and
	// service.appProtocol: tcp.
	Mirror, MirrorWeight, Match, CanaryMatch, SessionAffinity, PrimaryCookie, TCP bool
	// RE2 is set when regular expressions have to be in the syntax of RE2 (https://github.com/google/re2/wiki/Syntax), as in Envoy and
	// in proxies written in Go. Others take that of PCRE, or differ by the implementation.
	RE2 bool
	// ReportsSettled is set when Read knows whether a route has been taken over. Otherwise whoever relies on a
	// route waits for the propagation delay.
	ReportsSettled bool
	// ReportsDataPlane is set when that is seen on the proxies themselves. Pods that served can go as soon as it is reported;
	// what only a controller says of the objects that it has read does not shorten the wait.
	ReportsDataPlane bool
}

// Options are the settings of providers that come from flags and are the same for many.
type Options struct {
	// Unowned leaves out owner references, for a mesh or an ingress whose control plane is in another cluster.
	Unowned bool
}

// Provider is one mesh or ingress. Implementations are stateless and safe for concurrent use.
type Provider interface {
	// Abilities says which optional fields of a Canary the provider can serve.
	Abilities() Abilities
	// Resources lists every resource that Sources and Render can name, so that informers can be started for them.
	Resources() []Ref
	// Sources names the objects of users that Render reads.
	Sources(*v1beta1.Canary) []Ref
	// Render returns every object, complete, with the weights in. An error is a FieldError where a field of the Canary is
	// at fault, and says what to do.
	Render(c *v1beta1.Canary, t Traffic, sources Live) ([]Object, error)
	// Read returns the traffic that the live objects express. It fails when one is missing or can't be understood.
	Read(c *v1beta1.Canary, live Live) (Observed, error)
}

// Outliner is a Provider that renders from objects of users. Those may be gone when its own are looked for.
type Outliner interface {
	Provider
	// Outline returns the objects that Render makes as far as they are known without any source: the name of each, which of
	// its fields are ours, and how it is given back.
	Outline(*v1beta1.Canary) []Object
}

// Chooser is a Provider that leaves some Canaries to another one.
type Chooser interface {
	Provider
	// For returns the Provider for a Canary, which may be this one.
	For(*v1beta1.Canary) Provider
}

// For returns the Provider for a Canary: the one that p chooses, or p if it is no Chooser.
func For(p Provider, c *v1beta1.Canary) Provider {
	if chooser, ok := p.(Chooser); ok {
		return chooser.For(c)
	}
	return p
}

// Adviser is a Provider that sees in objects of users what is likely to keep a rollout from doing what its user expects.
type Adviser interface {
	Provider
	// Advise returns one sentence for each, with what to do. None of them stops a rollout.
	Advise(c *v1beta1.Canary, sources Live) []string
}

// Advice is what a Provider has to say about a Canary, nothing if it is no Adviser.
func Advice(p Provider, c *v1beta1.Canary, sources Live) []string {
	if adviser, ok := p.(Adviser); ok {
		return adviser.Advise(c, sources)
	}
	return nil
}

// FieldError is a fault in the Canary or in an object it refers to that its author has to mend.
type FieldError struct {
	// Field is the path in the Canary, such as "spec.service.gatewayRefs".
	Field string
	// Message says what is wrong and what to do.
	Message string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Message }
