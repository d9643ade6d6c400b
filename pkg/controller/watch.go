package controller

import (
	"reflect"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller/cache"
)

// onCanary is called for every change of a Canary.
func (c *Controller) onCanary(old, current *unstructured.Unstructured) {
	present := current
	if current == nil {
		present = old
	}
	key := cache.Key(present)
	if current == nil {
		c.workloads.Forget(old.GetUID())
	}
	c.limit.onCanary(old, current, c.Clock.Now())
	c.wakeDependents(old, current)
	if old != nil && current != nil && sameWishes(old, current) {
		if !sameField(old, current, "status", "rollout", "routing") {
			c.wakeRivals(current)
		}
		if !c.decidedOn(key, current) {
			c.remind(key)
		}
		return
	}
	if old == nil {
		// All Canaries are new to a process that starts.
		c.wake(key)
	} else {
		c.hurry(key)
	}
	if old == nil || current == nil || !sameField(old, current, "spec") || !sameField(old, current, "metadata", "deletionTimestamp") {
		// Whoever wanted the same workload may go on now, or has to stop.
		c.wakeRivals(present)
		if old != nil {
			c.wakeRivals(old)
		}
	}
}

// decidedOn is whether the last pass of a Canary has seen this version of it. It reads its predecessor's writes before an event tells of
// them.
func (c *Controller) decidedOn(key string, current *unstructured.Unstructured) bool {
	crew := c.crewOf(key)
	return crew != nil && cache.IsAt(crew.lastSeen(key), current)
}

func (c *Controller) wakeRivals(u *unstructured.Unstructured) {
	rivals, err := c.canaries.Rivals(cache.ClaimsOf(u))
	if err != nil {
		c.Log.Sugar().Errorf("canary %s/%s: looking for others with the same target: %v", u.GetNamespace(), u.GetName(), err)
	}
	for _, rival := range rivals {
		c.wake(cache.Key(rival))
	}
}

// onObject is called for every change of any other object.
func (c *Controller) onObject(e cache.Event) {
	keys := c.index.News(e.ReadAs, e.Version)
	if len(keys) == 0 {
		return
	}
	current := e.Current()
	news := isNews(e.Resource, e.Old(), current)
	for _, key := range keys {
		if news && c.isSource(key, e.Resource, current) {
			c.hurry(key)
		} else {
			c.wake(key)
		}
	}
}

// isNews is whether an object has become one of another revision.
func isNews(resource schema.GroupVersionResource, old, current *unstructured.Unstructured) bool {
	switch {
	case old == nil || current == nil:
		return false
	case isConfig(resource):
		// Its informer tells of changes of the contents, and of hardly any others.
		return true
	case old.GetGeneration() == current.GetGeneration():
		return false
	}
	return !sameField(old, current, "spec", "template")
}

func isConfig(resource schema.GroupVersionResource) bool {
	return resource.Group == "" && (resource.Resource == "configmaps" || resource.Resource == "secrets")
}

// isSource is whether a revision of a Canary comes from an object, and not the other way round.
func (c *Controller) isSource(key string, resource schema.GroupVersionResource, u *unstructured.Unstructured) bool {
	if isConfig(resource) {
		return !slices.ContainsFunc(u.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return r.Kind == v1beta1.CanaryKind })
	}
	crew := c.crewOf(key)
	if crew == nil {
		return false
	}
	canary := crew.lastSeen(key)
	return canary != nil && canary.Spec.TargetRef.Name == u.GetName()
}

// onResource is called when a resource became readable, or stopped being so.
func (c *Controller) onResource(resource schema.GroupVersionResource, waiters []string) {
	for _, key := range append(waiters, c.index.LookupResource(resource)...) {
		if key != "" {
			c.wake(key)
		}
	}
}

// sameWishes is whether a Canary changed in nothing but what the operator writes, its status.
func sameWishes(a, b *unstructured.Unstructured) bool {
	return a.GetUID() == b.GetUID() && a.GetGeneration() == b.GetGeneration() && sameField(a, b, "spec") &&
		sameField(a, b, "metadata", "annotations") && sameField(a, b, "metadata", "labels") &&
		sameField(a, b, "metadata", "finalizers") && sameField(a, b, "metadata", "deletionTimestamp")
}

func sameField(a, b *unstructured.Unstructured, path ...string) bool {
	x, _, _ := unstructured.NestedFieldNoCopy(a.Object, path...)
	y, _, _ := unstructured.NestedFieldNoCopy(b.Object, path...)
	return reflect.DeepEqual(x, y)
}
