package workload

import "testing"

// An autoscaler that leaves a workload without work without pods leaves a primary one as long as a rollout is under way, and nothing
// else of it is changed.
func TestPrimaryScalerKeepsAPodDuringARollout(t *testing.T) {
	all := scalers()
	hpa, keda := &all[0], &all[1]
	for name, c := range map[string]struct {
		s          *scaler
		spec, want map[string]any
	}{
		"KEDA by default": {keda, map[string]any{}, map[string]any{"minReplicaCount": int64(1)}},
		"KEDA at zero":    {keda, map[string]any{"minReplicaCount": int64(0)}, map[string]any{"minReplicaCount": int64(1)}},
		"KEDA when idle": {keda, map[string]any{"minReplicaCount": int64(3), "idleReplicaCount": int64(0)},
			map[string]any{"minReplicaCount": int64(3)}},
		"KEDA with pods": {keda, map[string]any{"minReplicaCount": int64(2)}, map[string]any{"minReplicaCount": int64(2)}},
		"HPA by default": {hpa, map[string]any{}, map[string]any{}},
		"HPA at zero":    {hpa, map[string]any{"minReplicas": int64(0)}, map[string]any{"minReplicas": int64(1)}},
	} {
		t.Run(name, func(t *testing.T) {
			c.s.keepUp(c.spec)
			if len(c.spec) != len(c.want) {
				t.Errorf("%v, want %v", c.spec, c.want)
			}
			for field, want := range c.want {
				if c.spec[field] != want {
					t.Errorf("%v, want %v", c.spec, c.want)
				}
			}
		})
	}
}
