package controller

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	toolscache "k8s.io/client-go/tools/cache"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller/cache"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/workload"
)

// byDependency is the name of the index of Canaries by the keys of those that they depend on.
const byDependency = "dependency"

// dependenciesOf are the keys of the Canaries that one depends on, in the order of its spec.
func dependenciesOf(u *unstructured.Unstructured) []string {
	refs, _, _ := unstructured.NestedFieldNoCopy(u.Object, "spec", "dependsOn", "canaries")
	list, _ := refs.([]any)
	var keys []string
	for _, item := range list {
		ref, _ := item.(map[string]any)
		name, _ := ref["name"].(string)
		namespace, _ := ref["namespace"].(string)
		keys = append(keys, keyOfReference(v1beta1.CanaryReference{Name: name, Namespace: namespace}, u.GetNamespace()))
	}
	return keys
}

func keyOfReference(ref v1beta1.CanaryReference, namespace string) string {
	return toolscache.NewObjectName(ref.NamespaceOr(namespace), ref.Name).String()
}

// nameOfKey is a key in the form that messages use.
func nameOfKey(key string) string {
	namespace, name := keyParts(key)
	return name + "." + namespace
}

// checkCycle refuses a Canary that depends on itself over others. One whose rollout is under way is let go on: it was begun before
// somebody closed the circle, perhaps in another Canary.
func (o *observer) checkCycle() {
	if o.v.canary.Spec.DependsOn == nil || rollout.UnderWay(o.v.canary.Status.Phase) {
		return
	}
	cycle := rollout.Cycle(o.v.key, func(key string) []string {
		u, err := o.c.canaries.Object(key)
		o.failed(err)
		if u == nil {
			return nil
		}
		return dependenciesOf(u)
	})
	if cycle == nil {
		return
	}
	names := make([]string, 0, len(cycle))
	for _, key := range cycle {
		names = append(names, nameOfKey(key))
	}
	o.problem(rollout.CycleProblem(names))
}

// observeDependencies finds out how far the Canaries are that come first. Only a change that waits to begin asks for that.
func (o *observer) observeDependencies() {
	d := o.v.canary.Spec.DependsOn
	if d == nil || !rollout.Pending(&o.v.facts) {
		return
	}
	for _, ref := range d.Canaries {
		key := keyOfReference(ref, o.v.canary.Namespace)
		// What becomes of it wakes this one.
		o.main.Touch(router.Ref{Resource: cache.CanaryResource, Kind: "Canary", Namespace: ref.NamespaceOr(o.v.canary.Namespace), Name: ref.Name})
		o.v.facts.Dependencies = append(o.v.facts.Dependencies, rollout.DependencyFact{Name: nameOfKey(key), State: o.dependency(key)})
	}
}

func (o *observer) dependency(key string) rollout.DependencyState {
	other, _, err := o.c.canaries.Get(key, o.c.lastSeen(key))
	switch {
	case err != nil:
		return rollout.DependencyUnknown
	case other == nil:
		return rollout.DependencyMissing
	}
	other, problem := rollout.RolledOut(other)
	target, unfit := o.c.workloads.For(other)
	if problem != nil || unfit != nil || !o.readable(o.c.workloads.ResourcesFor(other)) {
		return rollout.Dependency(other, rollout.Revision{})
	}
	if referrer, ok := target.(workload.Referrer); ok {
		refs, err := referrer.Refers(other, o.main)
		if err != nil || !o.readable(refs) {
			return rollout.Dependency(other, rollout.Revision{})
		}
	}
	seen, problem := target.Observe(other, o.main, o.v.facts.Now)
	if problem != nil && seen.Target.Revision.Fingerprint == "" {
		return rollout.Dependency(other, rollout.Revision{})
	}
	return rollout.Dependency(other, seen.Target.Revision)
}

// readable is whether resources can be read that another Canary needs. What it lacks is its problem.
func (o *observer) readable(refs []router.Ref) bool {
	for _, ref := range refs {
		if state, reason := o.c.main.Ensure(ref.Resource, o.v.key); state != cache.Synced {
			o.asleep = o.asleep || state != cache.Missing && reason == ""
			return false
		}
	}
	return true
}

// wakeDependents asks for passes of those that wait for a Canary, and of those whose circle it may have closed or opened.
func (c *Controller) wakeDependents(old, current *unstructured.Unstructured) {
	present := current
	if current == nil {
		present = old
	}
	appeared := old == nil || current == nil
	if appeared || !sameWishes(old, current) || !sameProgress(old, current) {
		for _, key := range c.index.Lookup(cache.KeyOfObject(cache.CanaryResource, present)) {
			c.wake(key)
		}
	}
	var before, after []string
	if old != nil {
		before = dependenciesOf(old)
	}
	if current != nil {
		after = dependenciesOf(current)
	}
	if strings.Join(before, " ") != strings.Join(after, " ") {
		c.wakeAllBehind(cache.Key(present))
	}
}

// wakeAllBehind asks for passes of all that depend on a Canary, directly or over others.
func (c *Controller) wakeAllBehind(key string) {
	seen, next := map[string]bool{key: true}, []string{key}
	for len(next) > 0 {
		behind := c.canaries.KeysBy(byDependency, next[0])
		next = next[1:]
		for _, k := range behind {
			if !seen[k] {
				seen[k] = true
				next = append(next, k)
				c.wake(k)
			}
		}
	}
}

// sameProgress is whether a Canary is as far as it was, for those that depend on it.
func sameProgress(a, b *unstructured.Unstructured) bool {
	return sameField(a, b, "status", "phase") && sameField(a, b, "status", "rollout", "target") &&
		sameField(a, b, "status", "rollout", "promoted") && sameField(a, b, "status", "rollout", "servingSide")
}
