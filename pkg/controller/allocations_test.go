package controller

import (
	"context"
	"encoding/json"
	"flag"
	"maps"
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller/cache"
	"flagger.app/flagger/pkg/fingerprint"
	"flagger.app/flagger/pkg/rollout"
)

var update = flag.Bool("update-allocations", false, "write what hot paths allocate into testdata/allocations.json")

const (
	// allocationsFile holds how many allocations each hot path took.
	allocationsFile = "testdata/allocations.json"
	// leeway is by how much more is no regression yet: the race detector empties pools, and versions of Go differ a little.
	leeway = 1.15
)

// hotPath is something that is done in every pass.
type hotPath struct {
	name string
	do   func() error
}

// hotPaths are the parts of the pass of a Canary that has settled behind Istio and reads a ConfigMap, and the pass as a whole. That is
// what almost every Canary is almost always.
func hotPaths(tb testing.TB) []hotPath {
	tb.Helper()
	t := &testing.T{}
	canary := canaryFor("podinfo")
	canary.Object["spec"].(map[string]any)["provider"] = "istio"
	a := newAPI(t, readingSettings("podinfo"), settings(), canary)
	a.serve("networking.istio.io/v1beta1", "virtualservices", "destinationrules")
	l := newLoop(t, a, 1).trackConfigs()
	l.recalled = nil
	ctx, stop := context.WithCancel(context.Background())
	tb.Cleanup(stop)
	go l.Watch(ctx)
	eventually(t, "the caches", l.Synced)
	const key = "test/podinfo"
	eventually(t, "a Canary at rest", func() bool {
		_, err := l.pass(ctx, key)
		a.makePodsReady()
		l.clock.Step(time.Second)
		return err == nil && l.phase("podinfo") == v1beta1.CanaryPhaseInitialized && replicasOf(a, "podinfo") == 0
	})
	v, err := l.observe(key)
	if err != nil {
		tb.Fatal(err)
	}
	rendered, err := v.provider.Render(v.canary, trafficOf(v.canary), l.mesh)
	if err != nil {
		tb.Fatal(err)
	}
	target := a.get(deploymentResource, "podinfo")
	return []hotPath{
		{"decode", func() error { _, err := cache.Decode(v.object()); return err }},
		{"observe", func() error { _, err := l.observe(key); return err }},
		{"decide", func() error { rollout.Resolve(&v.facts, nil); return nil }},
		{"render", func() error { _, err := v.provider.Render(v.canary, trafficOf(v.canary), l.mesh); return err }},
		{"compare", func() error { _, err := l.mesh.Diff(v.canary, rendered); return err }},
		{"fingerprint", func() error { _, err := fingerprint.Template(target.Object); return err }},
		{"pass", func() error { _, err := l.pass(ctx, key); return err }},
	}
}

func BenchmarkHotPaths(b *testing.B) {
	for _, path := range hotPaths(b) {
		b.Run(path.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := path.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Allocations are the part of the price of a pass that is the same on every machine. `go test ./pkg/controller -run TestAllocations
// -update-allocations` writes them down anew.
func TestAllocations(t *testing.T) {
	counted := map[string]float64{}
	for _, path := range hotPaths(t) {
		counted[path.name] = testing.AllocsPerRun(100, func() {
			if err := path.do(); err != nil {
				t.Fatal(err)
			}
		})
	}
	if *update {
		raw, err := json.MarshalIndent(counted, "", "  ")
		if err == nil {
			err = os.WriteFile(allocationsFile, append(raw, '\n'), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(allocationsFile)
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]float64{}
	if err := json.Unmarshal(raw, &allowed); err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(counted)) {
		if most := math.Ceil(allowed[name] * leeway); counted[name] > most {
			t.Errorf("%s takes %.0f allocations, and %s allows %.0f", name, counted[name], allocationsFile, most)
		}
	}
}
