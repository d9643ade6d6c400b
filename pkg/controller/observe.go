package controller

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller/cache"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/services"
	"flagger.app/flagger/pkg/workload"
)

// view is what one pass sees: the facts for the rules, and what is needed to carry out their actions.
type view struct {
	key string
	// started is when the pass began.
	started time.Time
	// object is what canary was decoded from.
	object func() *unstructured.Unstructured
	canary *v1beta1.Canary
	memory *memory
	facts  rollout.Facts

	provider router.Provider
	target   workload.Target
	// kind is the kind of target and primary.
	kind router.Ref
	seen workload.Observation
	// rendered are the objects of the provider for the traffic of the status, none where the last pass has found the same in place;
	// outline tells of them in any case. Handover is what a deletion gives back.
	rendered []router.Object
	outline  outline
	handover handover
	previous previous
	// refused is whether another Canary that takes precedence wants the same target or Service.
	refused bool
	// copies are those that the primary reads and that are not what it was promoted with.
	copies []workload.ChangedCopy
	// unrendered is set when the provider could not even say what its objects are called.
	unrendered bool
	// scaler is the autoscaler that the primary should have, none where the last pass has found it in place.
	scaler []router.Object
}

// observe gathers the facts about a Canary from the caches, without any call. The view is nil if the Canary does not exist.
// Whatever is wrong with the Canary or could not be read is a fact as well; an error means that there is nothing to decide
// on.
func (c *Controller) observe(key string) (*view, error) {
	canary, object, err := c.canaries.Get(key, c.lastSeen(key), c.lastWritten(key))
	if err != nil || canary == nil {
		return nil, err
	}
	m := c.memoryOf(key, canary)
	canary, problem := rollout.RolledOut(c.defaulted(canary, object))
	v := &view{key: key, started: c.Clock.Now(), object: object, canary: canary, memory: m}
	v.facts = rollout.Facts{
		Now:        v.started,
		Canary:     canary,
		Settings:   c.Settings,
		Delivered:  c.publisher.DeliveredTo(key, canary.UID),
		ApplyError: m.applyError,
		Sight:      m.sight,
	}
	if !rollout.UnderWay(canary.Status.Phase) {
		c.limit.withdraw(key, v.started)
	}
	if canary.GetAnalysis().SessionAffinity != nil {
		v.facts.Nonces = [2]string{nonce(), nonce()}
	}
	reads := c.index.Reads(key)
	o := &observer{c: c, v: v, main: reads.Of(c.main), mesh: reads.Of(c.mesh)}
	o.problem(problem)
	o.observe()
	if o.asleep {
		return nil, errAsleep
	}
	if rollout.Pending(&v.facts) {
		v.facts.OthersFirst, v.facts.Queue = c.limit.standing(object(), v.started)
	}
	v.tellProblem()
	v.facts.Contended = m.contentions.problem()
	reads.Keep()
	return v, nil
}

// tellProblem keeps the words of the last pass for a problem that this one sees as well.
func (v *view) tellProblem() {
	p, words := v.facts.Problem, &v.memory.words
	if p == nil {
		words.over(aboutProblem, "")
		return
	}
	about := aboutProblem + string(p.Reason)
	words.over(aboutProblem, about)
	p.Message = words.of(about, p.Message, v.canary.Generation, v.started)
}

// nonce returns ten random letters.
func nonce() string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	out := make([]byte, 10)
	for i := range out {
		out[i] = letters[rand.IntN(len(letters))]
	}
	return string(out)
}

// observer fills one view. The steps go on after a problem where they can: traffic may have to be led away from a target
// that is gone.
type observer struct {
	c          *Controller
	v          *view
	main, mesh *cache.Reader
	// asleep is set when a cache is not filled yet.
	asleep bool
	// unknown is the first read that failed.
	unknown *rollout.Problem
}

func (o *observer) observe() {
	o.remember()
	o.checkSpec()
	o.checkRivals()
	o.checkCycle()
	o.observeWorkloads()
	o.observeSchedule()
	o.observeDependencies()
	o.observeScaler()
	o.observeServices()
	o.observePort()
	o.observeRoutes()
	o.problem(rollout.Irreplaceable(&o.v.facts))
	o.observePrevious()
	o.observeCopies()
	o.v.facts.Routes.Outlasting = o.outlasts()
	o.observeReverted()
}

// problem keeps the first problem, and the first that is a failed read.
func (o *observer) problem(p *rollout.Problem) {
	if p == nil || o.v.facts.Problem != nil && (!p.Unknown || o.unknown != nil) {
		return
	}
	short := *p
	short.Message = shortened(p.Message)
	if o.v.facts.Problem == nil {
		o.v.facts.Problem = &short
	}
	if p.Unknown && o.unknown == nil {
		o.unknown = &short
	}
}

func (o *observer) invalid(format string, args ...any) {
	o.problem(&rollout.Problem{Reason: rollout.ReasonInvalidSpec, Message: fmt.Sprintf(format, args...)})
}

// failed turns an error of a render or a read into a problem: a fault of the Canary, or something that is not known.
func (o *observer) failed(err error) {
	var field *router.FieldError
	switch {
	case err == nil:
	case errors.As(err, &field):
		o.invalid("%s", err)
	default:
		o.problem(&rollout.Problem{Reason: rollout.ReasonReadFailed, Message: err.Error(), Unknown: true})
	}
}

// reasonRouterCRDMissing is the reason of the Healthy condition while what the provider makes is not served by the cluster.
const reasonRouterCRDMissing rollout.ProblemReason = "RouterCRDMissing"

// ready makes sure that the resources are watched, and reports whether they can be read. One that is not installed is a fault of the
// Canary that needs it.
func (o *observer) ready(s *site, refs []router.Ref, remedy string) bool {
	return o.readyOr(rollout.ReasonInvalidSpec, s, refs, remedy)
}

// readyOr is ready with another reason for a resource that is not installed.
func (o *observer) readyOr(missing rollout.ProblemReason, s *site, refs []router.Ref, remedy string) bool {
	for _, ref := range refs {
		state, reason := s.Ensure(ref.Resource, o.v.key)
		switch {
		case state == cache.Synced:
			continue
		case state == cache.Missing:
			o.problem(&rollout.Problem{Reason: missing, Message: reason + ": " + remedy})
		case reason != "":
			o.problem(&rollout.Problem{Reason: rollout.ReasonReadFailed, Message: reason, Unknown: true})
		default:
			o.asleep = true
		}
		return false
	}
	return true
}

func (o *observer) observeWorkloads() {
	target, problem := o.c.workloads.For(o.v.canary)
	o.problem(problem)
	missing, remedy := rollout.ReasonInvalidSpec, "run the operator in a cluster that serves it"
	if o.v.canary.IsKnative() {
		missing, remedy = reasonRouterCRDMissing, "install Knative Serving, or name another spec.targetRef"
	}
	if problem != nil || !o.readyOr(missing, o.c.main, o.c.workloads.ResourcesFor(o.v.canary), remedy) {
		return
	}
	o.v.target, o.v.kind = target, o.c.workloads.ResourcesFor(o.v.canary)[0]
	inputs := workloadsInputs{phase: o.v.canary.Status.Phase}
	if record := o.v.canary.Status.Rollout; record != nil {
		inputs.promoted, inputs.routing = record.Promoted, record.Routing
	}
	last := &o.v.memory.findings.workloads
	if *last != nil && (*last).result.outdated(o.v.facts.Now) {
		*last = nil
	}
	found, _ := recall(o, last, o.c.main, o.main, &inputs, func(r *recorder) (workloadsFound, []router.Object, bool) {
		return o.findWorkloads(inputs, r)
	})
	o.v.seen = found.seen
	o.v.facts.Target, o.v.facts.Primary, o.v.facts.Port = o.v.seen.Target, o.v.seen.Primary, o.v.seen.Port
}

func (o *observer) findWorkloads(in workloadsInputs, r *recorder) (workloadsFound, []router.Object, bool) {
	c := shown(o.v.canary, v1beta1.CanaryStatus{Phase: in.phase, Rollout: &v1beta1.RolloutStatus{
		Promoted: in.promoted, Routing: in.routing,
	}})
	if referrer, ok := o.v.target.(workload.Referrer); ok {
		refs, err := referrer.Refers(c, r)
		o.failed(err)
		if err != nil || !o.ready(o.c.main, refs, "run the operator in a cluster that serves it") {
			return workloadsFound{}, nil, false
		}
	}
	seen, problem := o.v.target.Observe(c, r, o.v.facts.Now)
	o.problem(problem)
	return workloadsFound{seen}, nil, problem == nil
}

// observeScaler finds out whether the autoscalers are as wanted.
func (o *observer) observeScaler() {
	c := o.v.canary
	refs := workload.ScalerResources(c)
	remedy := "install what provides it, or remove spec.autoscalerRef"
	if len(refs) == 0 || !o.ready(o.c.main, refs, remedy) {
		return
	}
	inputs := scalerInputs{c.Status.Phase}
	found, wanted := recall(o, &o.v.memory.findings.scaler, o.c.main, o.main, &inputs, func(r *recorder) (scalerFound, []router.Object, bool) {
		return o.findScaler(inputs, r)
	})
	if !found.known {
		return
	}
	o.v.facts.Scaler = workload.TargetScaler(c, o.main)
	o.v.facts.Scaler.Wanted, o.v.facts.Scaler.InPlace, o.v.scaler = found.wanted, found.inPlace, wanted
}

func (o *observer) findScaler(in scalerInputs, r *recorder) (scalerFound, []router.Object, bool) {
	wanted, problem := workload.PrimaryScaler(shown(o.v.canary, v1beta1.CanaryStatus{Phase: in.phase}), r)
	o.problem(problem)
	found := scalerFound{known: problem == nil, wanted: len(wanted) > 0}
	found.inPlace = found.wanted && o.compare(r, wanted)
	return found, wanted, found.inPlace
}

func (o *observer) observeServices() {
	if !o.v.selects() || !o.ready(o.c.main, []router.Ref{services.Ref("", "")}, "run the operator in a cluster that serves it") {
		return
	}
	inputs := servicesInputs{Input: o.v.servicesInput(), apex: o.v.apexInput(o.v.canary).Primary}
	if record := o.v.canary.Status.Rollout; record != nil {
		inputs.routing = record.Routing
	}
	found, _ := recall(o, &o.v.memory.findings.services, o.c.main, o.main, &inputs, func(r *recorder) (servicesFound, []router.Object, bool) {
		return o.findServices(inputs, r)
	})
	fact := &o.v.facts.Services
	fact.BackendsInPlace, fact.ApexInPlace = found.backends, found.apex
	fact.PrimaryUnfound, fact.CanaryUnfound = found.primaryUnfound, found.canaryUnfound
}

func (o *observer) findServices(in servicesInputs, r *recorder) (servicesFound, []router.Object, bool) {
	c := shown(o.v.canary, v1beta1.CanaryStatus{Rollout: &v1beta1.RolloutStatus{Routing: in.routing}})
	backends, unrendered := services.Backends(c, in.Input, r)
	o.failed(unrendered)
	ofApex := in.Input
	ofApex.Primary = in.apex
	apex, err := services.Apex(c, ofApex, r)
	o.failed(err)
	found := servicesFound{backends: o.compare(r, backends), apex: o.compare(r, apex)}
	if unrendered == nil && found.backends {
		// They select what they have to.
		return found, nil, found.apex && err == nil
	}
	found.primaryUnfound, found.canaryUnfound, err = services.Unfound(c, in.Input, r)
	o.failed(err)
	return found, nil, false
}

// selects is whether it is known what the Services have to select, if they select anything.
func (v *view) selects() bool {
	return v.seen.Selector.Label != "" || !services.Managed(v.canary)
}

func (v *view) servicesInput() services.Input {
	in := services.Input{
		Label: v.seen.Selector.Label, Value: v.seen.Selector.Value, Pods: v.seen.PodLabels, PrimaryPods: v.seen.PrimaryPodLabels,
		Apart: v.seen.Apart,
	}
	if made := v.seen.PrimarySelector; made.Label != "" {
		in.Primary = services.Selector{Label: made.Label, Value: made.PrimaryValue()}
	}
	for _, p := range v.seen.Ports {
		in.Ports = append(in.Ports, services.Port{Name: p.Name, Number: p.Number, Protocol: p.Protocol})
	}
	return in
}

// apexInput is the same for the Service that clients use, for a status of the Canary.
func (v *view) apexInput(c *v1beta1.Canary) services.Input {
	in := v.servicesInput()
	if rollout.LeadsApexToCanary(c, &v.facts.Primary) {
		in.Primary = services.Selector{Label: in.Label, Value: in.Value}
	}
	return in
}

// inPlace is whether the objects are as wanted.
func (o *observer) inPlace(s *site, live router.Live, wanted []router.Object) bool {
	changes, err := s.DiffFrom(live, o.v.canary, wanted)
	o.failed(err)
	if err == nil {
		o.follow(s, wanted, changes)
	}
	return err == nil && len(changes) == 0
}

// providerFact is what the rules know of a provider.
func providerFact(name string, can router.Abilities) rollout.ProviderFact {
	return rollout.ProviderFact{
		Name:             name,
		Weights:          can.Weights,
		Routes:           can.Routes,
		Mirror:           can.Mirror,
		MirrorWeight:     can.MirrorWeight,
		Match:            can.Match,
		SessionAffinity:  can.SessionAffinity,
		PrimaryCookie:    can.PrimaryCookie,
		ReportsSettled:   can.ReportsSettled,
		ReportsDataPlane: can.ReportsDataPlane,
	}
}

func (o *observer) observeRoutes() {
	name := o.v.canary.GetProvider(o.c.DefaultProvider)
	p, err := o.c.Providers.Provider(name)
	if err != nil {
		where := "spec.provider"
		if o.v.canary.Spec.Provider == "" {
			where = "flag -mesh-provider, as spec.provider is empty"
		}
		o.invalid("%s: %v", where, err)
		return
	}
	p = router.For(p, o.v.canary)
	abilities := p.Abilities()
	o.v.provider = p
	o.v.facts.Provider = providerFact(name, abilities)
	for _, fault := range router.CheckAbilities(o.v.canary, abilities) {
		o.problem(&rollout.Problem{Reason: rollout.ReasonUnsupportedFields, Message: fault.Error()})
	}
	remedy := fmt.Sprintf("install what provides it, or set spec.provider to another provider than %s", name)
	if !o.readyOr(reasonRouterCRDMissing, o.c.mesh, p.Resources(), remedy) {
		return
	}
	inputs := routesInputs{name, trafficOf(o.v.canary), o.v.canary.Status.CanaryWeight}
	found, rendered := recall(o, &o.v.memory.findings.routes, o.c.mesh, o.mesh, &inputs, func(r *recorder) (routesFound, []router.Object, bool) {
		return o.findRoutes(p, inputs, r)
	})
	if !found.rendered {
		o.outlineRoutes(p)
		return
	}
	o.v.rendered, o.v.outline = rendered, found.outline
	o.v.facts.Provider.Warnings = found.warnings
	o.v.facts.Services.BackendsInPlace = o.v.facts.Services.BackendsInPlace && found.earlyInPlace
	o.v.facts.Routes.InPlace = found.inPlace
	if found.unread != nil {
		o.v.facts.Routes.Reason = found.unread.Error()
		return
	}
	read := &found.read
	o.v.facts.Routes.Known = true
	o.v.facts.Routes.Settled, o.v.facts.Routes.Silent, o.v.facts.Routes.Reason = read.Settled, read.Silent, read.Reason
	o.v.facts.Routes.CanaryWeight, o.v.facts.Routes.Mirror = read.Traffic.Canary, read.Traffic.Mirror
	o.v.facts.Routes.Matched = read.Traffic.Matched
}

func (o *observer) findRoutes(p router.Provider, in routesInputs, r *recorder) (routesFound, []router.Object, bool) {
	c := shown(o.v.canary, v1beta1.CanaryStatus{CanaryWeight: in.weight})
	wanted, err := p.Render(c, in.traffic, r)
	if err != nil {
		o.failed(err)
		return routesFound{}, nil, false
	}
	found := routesFound{rendered: true, outline: outlineOf(wanted), warnings: router.Advice(p, c, r)}
	changes, err := o.c.mesh.DiffFrom(r, c, early(wanted))
	found.earlyInPlace = err == nil && len(changes) == 0
	found.inPlace = o.compare(r, wanted)
	found.read, found.unread = p.Read(c, r)
	return found, wanted, found.earlyInPlace && found.inPlace && found.unread == nil
}

// early are the objects that pods need before they can start. They are made along with the Services of both sides.
func early(wanted []router.Object) []router.Object {
	var first []router.Object
	for i := range wanted {
		if wanted[i].Early {
			first = append(first, wanted[i])
		}
	}
	return first
}

// outlineRoutes names the objects of a provider that can't render them, so that a Canary can be deleted whose Ingress is gone.
func (o *observer) outlineRoutes(p router.Provider) {
	wanted, err := router.Outline(o.v.canary, p, router.NamesOf(o.v.canary).Apex, o.mesh)
	o.v.unrendered = err != nil
	o.v.rendered, o.v.outline = wanted, outlineOf(wanted)
}

// trafficOf is the routing that a Canary asks for, with the cookies that stand in its status.
func trafficOf(c *v1beta1.Canary) router.Traffic {
	s := &c.Status
	t := rollout.Traffic(c.GetAnalysis(), s)
	return router.Traffic{
		Primary: 100 - t.CanaryWeight,
		Canary:  t.CanaryWeight,
		Mirror:  t.Mirror,
		Matched: t.Matched,
		Cookies: router.Cookies{
			Canary:   s.SessionAffinityCookie,
			Primary:  s.PrimarySessionAffinityCookie,
			Previous: s.PreviousSessionAffinityCookie,
		},
	}
}

// checkSpec repeats the rules of the CRD for objects that got past them, and checks what a CRD can't express.
func (o *observer) checkSpec() {
	checked := &o.v.memory.findings.faults
	if *checked == nil {
		faults := v1beta1.Validate(o.v.canary, v1beta1.ValidationOptions{
			Provider:             o.c.DefaultProvider,
			NoCrossNamespaceRefs: o.c.NoCrossNamespaceRefs,
		})
		*checked = &faults
	}
	for _, fault := range **checked {
		o.invalid("%s", fault.Error())
	}
}

// checkRivals refuses a Canary that wants the target or the Service of one that takes precedence: the two would undo each other's
// work.
func (o *observer) checkRivals() {
	claims := &o.v.memory.findings.claims
	if *claims == nil {
		all := cache.ClaimsOf(o.v.object())
		*claims = &all
	}
	rivals, err := o.c.canaries.Rivals(**claims)
	o.failed(err)
	if len(rivals) == 0 {
		return
	}
	object := o.v.object()
	first := slices.IndexFunc(rivals, func(rival *unstructured.Unstructured) bool { return cache.Precedence(rival, object) < 0 })
	if first < 0 {
		return
	}
	o.v.refused = true
	rival := rivals[first]
	field, what := "spec.targetRef", fmt.Sprintf("target %s/%s", o.v.canary.Spec.TargetRef.Kind, o.v.canary.Spec.TargetRef.Name)
	if shared := cache.SharedPrimary(rival, object); shared != "" {
		field, what = "spec.primaryRef", "workload "+shared+" as its primary or its target"
	} else if !cache.SameTarget(rival, object) {
		field, what = "spec.service.name", "Service "+router.NamesOf(o.v.canary).Apex
	}
	o.problem(&rollout.Problem{Reason: rollout.ReasonDuplicateTarget, Message: fmt.Sprintf(
		"%s: canary %s.%s has the same %s: delete one of the two Canaries", field, rival.GetName(), rival.GetNamespace(), what)})
}
