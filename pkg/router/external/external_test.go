package external_test

import (
	"testing"

	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/external"
)

func TestWeightsStandInTheStatus(t *testing.T) {
	p, store, c := external.New(), conformance.NewStore(nil), conformance.Podinfo()
	if len(p.Resources())+len(p.Sources(c)) > 0 {
		t.Error("it reads objects")
	}
	for _, weight := range []int32{0, 10, 100} {
		c.Status.CanaryWeight = weight
		want := router.Traffic{Primary: 100 - weight, Canary: weight}
		if objects, err := p.Render(c, want, store); err != nil || len(objects) > 0 {
			t.Errorf("Render() = %v, %v; want nothing", objects, err)
		}
		if observed, err := p.Read(c, store); err != nil || observed.Traffic != want || !observed.Settled {
			t.Errorf("Read() = %+v, %v; want %s", observed, err, want)
		}
	}
}

func TestOnlyWeights(t *testing.T) {
	if got := external.New().Abilities(); got != (router.Abilities{Routes: true, Weights: true}) {
		t.Errorf("abilities %+v", got)
	}
}
