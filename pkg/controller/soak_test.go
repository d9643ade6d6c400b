package controller

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// held counts what every map and slice holds that can be reached from a value, by the path that leads there. Only the types of the
// operator are followed: what others hold, such as the store of an informer, is not ours to bound.
func held(root any) map[string]int {
	counts, seen := map[string]int{}, map[uintptr]bool{}
	var walk func(v reflect.Value, path string)
	walk = func(v reflect.Value, path string) {
		switch v.Kind() {
		case reflect.Interface:
			walk(v.Elem(), path)
		case reflect.Pointer:
			if !v.IsNil() && !seen[v.Pointer()] && ours(v.Type().Elem()) {
				seen[v.Pointer()] = true
				walk(v.Elem(), path)
			}
		case reflect.Struct:
			for i := range v.NumField() {
				if ours(v.Type()) {
					walk(v.Field(i), path+"."+v.Type().Field(i).Name)
				}
			}
		case reflect.Map:
			counts[path] += v.Len()
			for it := v.MapRange(); it.Next(); {
				walk(it.Value(), path+"[]")
			}
		case reflect.Slice:
			counts[path] += v.Len()
			for i := range v.Len() {
				walk(v.Index(i), path+"[]")
			}
		}
	}
	walk(reflect.ValueOf(root), "")
	return counts
}

// ours is whether a type belongs to what the operator keeps between two passes: an object of the API is one entry.
func ours(t reflect.Type) bool {
	at := strings.TrimPrefix(t.PkgPath(), "flagger.app/flagger/pkg/")
	return at != t.PkgPath() && !strings.HasPrefix(at, "apis/") && !strings.HasPrefix(at, "hook/hooktest") && t != reflect.TypeFor[notifier]()
}

// What a process remembers does not grow with the rollouts that it has seen, nor with the Canaries that came and went.
func TestMemoryIsBounded(t *testing.T) { synctest.Test(t, testMemoryIsBounded) }

func testMemoryIsBounded(t *testing.T) {
	a := newAPI(t, readyDeployment("podinfo", 2), canaryFor("podinfo"))
	l := newLoop(t, a, 2, func(c *Config) { c.Settings.MaxRollouts = 1 }).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	n := 0
	live := func(rounds int) map[string]int {
		for range rounds {
			n++
			name := fmt.Sprintf("passing-%d", n)
			a.put(readyDeployment(name, 1))
			a.put(canaryFor(name))
			l.untilPhase(name, v1beta1.CanaryPhaseInitialized)
			a.edit(deploymentResource, "podinfo", fmt.Sprint(n), "spec", "template", "metadata", "annotations", "image")
			l.untilPhase("podinfo", v1beta1.CanaryPhaseProgressing)
			l.untilPhase("podinfo", v1beta1.CanaryPhaseSucceeded)
			a.client.Tracker().Delete(canaryResource, "test", name)
			for _, of := range []string{name, primaryOf(name)} {
				a.client.Tracker().Delete(deploymentResource, "test", of)
			}
			for _, of := range []string{name, name + "-canary", name + "-primary"} {
				a.client.Tracker().Delete(serviceResource, "test", of)
			}
			l.atRest("podinfo")
		}
		for range 120 {
			settle()
			l.step()
		}
		l.untilIdle()
		// Informers that are still telling would write what is read here without their locks.
		synctest.Wait()
		return held(l.Controller)
	}
	before := live(5)
	after := live(30)
	if len(before) < 10 {
		t.Fatalf("only %d maps and lists were found: %v", len(before), before)
	}
	slack := map[string]int{
		// What the applier remembers of objects that are gone is swept when it has doubled.
		".main.applier.answers.byRef": 64,
		// This is all that was written within half a minute, of which there is now more, now less.
		".canaries.cluster.recording.consistency.order": 20,
	}
	for _, path := range slices.Sorted(maps.Keys(after)) {
		if after[path] > before[path]+slack[path] {
			t.Errorf("%s holds %d entries after 5 rollouts and %d after 35", path, before[path], after[path])
		}
	}
}
