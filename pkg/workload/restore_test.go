package workload

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

func TestRestore(t *testing.T) {
	for name, tt := range map[string]struct {
		target, primary, want int64
		autoscaler            string
		writes                int
	}{
		"from zero":                   {target: 0, primary: 4, want: 4, writes: 1},
		"from a share":                {target: 1, primary: 4, want: 4, writes: 1},
		"more than the primary stays": {target: 5, primary: 4, want: 5},
		"no primary":                  {target: 0, primary: -1, want: 1, writes: 1},
		"autoscaler that is gone":     {target: 0, primary: 4, want: 4, autoscaler: "ScaledObject", writes: 1},
		"another that is gone":        {target: 0, primary: 4, want: 4, autoscaler: "HorizontalPodAutoscaler", writes: 1},
		"target that is gone":         {target: -1, primary: 4},
	} {
		t.Run(name, func(t *testing.T) {
			c := canary()
			if tt.autoscaler != "" {
				c.Spec.AutoscalerRef = &v1beta1.AutoscalerReference{Kind: tt.autoscaler, Name: "podinfo"}
			}
			var objects []*unstructured.Unstructured
			if tt.target >= 0 {
				objects = append(objects, set(t, target(t), tt.target, "spec", "replicas"))
			}
			if tt.primary >= 0 {
				objects = append(objects, set(t, flaggerPrimary(t, target(t)), tt.primary, "spec", "replicas"))
			}
			client, d := cluster(objects...)
			if err := Restore(t.Context(), d, c); err != nil {
				t.Fatal(err)
			}
			if got := len(writes(client)); got != tt.writes {
				t.Errorf("%d writes, want %d", got, tt.writes)
			}
			if tt.target < 0 {
				return
			}
			if got := intAt(get(t, client, "podinfo").Object, 1, "spec", "replicas"); got != tt.want {
				t.Errorf("%d replicas, want %d", got, tt.want)
			}
		})
	}
}
