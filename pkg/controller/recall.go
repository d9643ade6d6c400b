package controller

import (
	"reflect"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller/cache"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/services"
	"flagger.app/flagger/pkg/workload"
)

// findings are what the last pass found of the spec of a Canary, of its workloads, and of its objects that were all in place. Most passes
// come of objects that change none of it, and take it over instead of judging, rendering and comparing everything anew. What failed, and
// objects that are not in place and so about to be written, are never kept.
type findings struct {
	// canary is the one that they are about, without its status.
	canary *v1beta1.Canary
	// faults are those of its spec, nil before they were looked for.
	faults *field.ErrorList
	// claims are those of its spec, nil before they were looked for.
	claims    *cache.Claims
	workloads *finding[workloadsInputs, workloadsFound]
	services  *finding[servicesInputs, servicesFound]
	routes    *finding[routesInputs, routesFound]
	scaler    *finding[scalerInputs, scalerFound]
	// copies are of the configs that the primary reads.
	copies *finding[copiesInputs, copiesFound]
}

// copiesInputs are nothing besides the Canary without its status and the objects that there are.
type copiesInputs struct{}

func (*copiesInputs) same(*copiesInputs) bool { return true }

type copiesFound struct{ changed []workload.ChangedCopy }

// finding is a result with all that it came of. Rendered objects are not kept: a few hundred bytes tell as well whether they would be
// the same.
type finding[I, R any] struct {
	inputs I
	reads  []read
	result R
}

// inputs of a finding tell whether all of them are the same.
type inputs[I any] interface{ same(other *I) bool }

// read is an object that was looked at.
type read struct {
	ref  router.Ref
	seen cache.Version
	// wanted is whether it was compared with what is wanted, memory what was remembered of our own writes of it then.
	wanted bool
	memory router.Memory
}

// workloadsInputs are what target and primary are judged by besides the Canary without its status and the objects that there are.
type workloadsInputs struct {
	phase    v1beta1.CanaryPhase
	promoted *v1beta1.RevisionRef
	routing  []v1beta1.RoutingRef
}

func (in *workloadsInputs) same(other *workloadsInputs) bool {
	return in.phase == other.phase && in.promoted.Equal(other.promoted) && slices.Equal(in.routing, other.routing)
}

type workloadsFound struct{ seen workload.Observation }

// outdated is whether time alone has changed what was found.
func (f *workloadsFound) outdated(now time.Time) bool {
	return !f.seen.RecheckAt.IsZero() && !now.Before(f.seen.RecheckAt)
}

// servicesInputs are what the Services are made of besides the Canary without its status and the objects that there are.
type servicesInputs struct {
	services.Input
	// apex is what the one for clients selects as the primary.
	apex    services.Selector
	routing []v1beta1.RoutingRef
}

func (in *servicesInputs) same(other *servicesInputs) bool {
	return in.Equal(&other.Input) && in.apex == other.apex && slices.Equal(in.routing, other.routing)
}

type servicesFound struct{ backends, apex, primaryUnfound, canaryUnfound bool }

// routesInputs are the same of the routes.
type routesInputs struct {
	provider string
	traffic  router.Traffic
	weight   int32
}

func (in *routesInputs) same(other *routesInputs) bool { return *in == *other }

type routesFound struct {
	outline
	// rendered is whether there is an outline.
	rendered bool
	warnings []string
	// earlyInPlace is whether those are in place that pods need before they can start.
	inPlace, earlyInPlace bool
	read                  router.Observed
	// unread is why they could not be read, nil if they could.
	unread error
}

// outline is as much of the wanted objects of a provider as a pass needs that writes none.
type outline struct {
	// some is whether there are any, early whether there are some that pods need before they can start.
	some, early bool
	// unowned are those that have no owner reference.
	unowned []router.Ref
}

func outlineOf(wanted []router.Object) outline {
	all := outline{some: wanted != nil, early: len(early(wanted)) > 0}
	for i := range wanted {
		if wanted[i].Unowned {
			all.unowned = append(all.unowned, wanted[i].Ref)
		}
	}
	return all
}

// scalerInputs are the same of the autoscaler.
type scalerInputs struct{ phase v1beta1.CanaryPhase }

func (in *scalerInputs) same(other *scalerInputs) bool { return *in == *other }

type scalerFound struct{ known, wanted, inPlace bool }

// shown is a Canary with that part of its status alone that is among the inputs of a finding: what is not compared can't be read either.
func shown(c *v1beta1.Canary, status v1beta1.CanaryStatus) *v1beta1.Canary {
	part := *c
	part.ObjectMeta, part.Status = unversioned(c), status
	return &part
}

// unversioned is the metadata of a Canary without what every write of its status changes.
func unversioned(c *v1beta1.Canary) metav1.ObjectMeta {
	m := c.ObjectMeta
	m.ResourceVersion, m.ManagedFields = "", nil
	return m
}

func sameButForStatus(a, b *v1beta1.Canary) bool {
	if a == b {
		return true
	}
	return a != nil && reflect.DeepEqual(&a.Spec, &b.Spec) && reflect.DeepEqual(unversioned(a), unversioned(b))
}

// remember makes what earlier passes found available to this one, if it is about the same Canary. Whoever gives objects back needs all
// that is rendered.
func (o *observer) remember() {
	c, all := o.v.canary, &o.v.memory.findings
	if !sameButForStatus(all.canary, c) || !c.DeletionTimestamp.IsZero() || len(o.previousRouting(c.GetProvider(o.c.DefaultProvider))) > 0 {
		*all = findings{}
	}
	all.canary = c
}

// recall returns what was found last, if it came of the same inputs and all that was looked at is as it was. Else it finds out anew,
// and returns the wanted objects as well. Find reports whether the result may be taken over: nothing failed, and what is wanted is in
// place.
func recall[I, R any, P interface {
	*I
	inputs[I]
}](o *observer, last **finding[I, R], s *site, live *cache.Reader, in P,
	find func(*recorder) (found R, wanted []router.Object, lasts bool)) (R, []router.Object) {
	if f := *last; f != nil && in.same(&f.inputs) && unchanged(f.reads, s, live) {
		// Equal ones that this pass has in use anyway.
		f.inputs = *in
		for i := range f.reads {
			if f.reads[i].wanted {
				o.v.memory.contentions.asWanted(f.reads[i].ref, o.v.started)
			}
		}
		if o.c.recalled != nil {
			o.c.recalled(f.result, func() any {
				observer, view := *o, *o.v
				defer func() { *o, *o.v = observer, view }()
				found, _, _ := find(&recorder{site: s, live: live})
				return found
			}, func() bool { return unchanged(f.reads, s, live) })
		}
		return f.result, nil
	}
	*last = nil
	r := &recorder{site: s, live: live}
	result, objects, lasts := find(r)
	if lasts && !r.unsteady {
		*last = &finding[I, R]{inputs: *in, reads: slices.Clip(r.reads), result: result}
	}
	return result, objects
}

// unchanged looks at all objects again: also a pass that finds nothing new depends on them.
func unchanged(reads []read, s *site, live *cache.Reader) bool {
	same := true
	for i := range reads {
		was := &reads[i]
		now, err := live.Version(was.ref)
		same = same && err == nil && now == was.seen &&
			(!was.wanted || s.of(was.ref.Resource).applier.Memory(was.ref) == was.memory)
	}
	return same
}

// recorder is a router.Live that notes what is looked at.
type recorder struct {
	site  *site
	live  router.Live
	reads []read
	// unsteady is set when something could not be read, changed meanwhile, or has no version to tell it by.
	unsteady bool
}

// Get implements router.Live.
func (r *recorder) Get(ref router.Ref) (*unstructured.Unstructured, error) {
	u, err := r.live.Get(ref)
	seen := cache.VersionOf(u)
	if err != nil || u != nil && !seen.IsKnown() {
		r.unsteady = true
	}
	if known := r.find(ref); known == nil {
		r.reads = append(r.reads, read{ref: ref, seen: seen})
	} else if known.seen != seen {
		r.unsteady = true
	}
	return u, err
}

func (r *recorder) find(ref router.Ref) *read {
	for i := range r.reads {
		if r.reads[i].ref == ref {
			return &r.reads[i]
		}
	}
	return nil
}

// compare is inPlace for what a finding comes of. What is remembered of our writes is noted after that: a comparison may forget a write
// that has been seen.
func (o *observer) compare(r *recorder, wanted []router.Object) (inPlace bool) {
	inPlace = o.inPlace(r.site, r, wanted)
	for i := range wanted {
		ref := wanted[i].Ref
		known := r.find(ref)
		if known == nil {
			r.unsteady = true
			continue
		}
		known.wanted, known.memory = true, r.site.of(ref.Resource).applier.Memory(ref)
	}
	return inPlace
}
