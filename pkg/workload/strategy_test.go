package workload

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

func TestPrimaryThatStopsFirst(t *testing.T) {
	rolling := func(surge, missing any) map[string]any {
		return map[string]any{"type": "RollingUpdate", "rollingUpdate": map[string]any{"maxSurge": surge, "maxUnavailable": missing}}
	}
	recreate := map[string]any{"type": "Recreate"}
	deployment := func(replicas int64, strategy map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"replicas": replicas, "strategy": strategy}}}
	}
	daemons := func(nodes int64, strategy map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"spec": map[string]any{"updateStrategy": strategy}, "status": map[string]any{"desiredNumberScheduled": nodes},
		}}
	}
	for name, c := range map[string]struct {
		kind            podKind
		target, primary *unstructured.Unstructured
		scaled          bool
		want            bool
	}{
		"a rolling update by default":                  {deploymentKind(), deployment(2, nil), deployment(2, nil), false, false},
		"a single pod by default, which surges":        {deploymentKind(), deployment(1, nil), deployment(1, nil), false, false},
		"Recreate":                                     {deploymentKind(), deployment(2, recreate), deployment(2, recreate), false, true},
		"Recreate comes with the copy":                 {deploymentKind(), deployment(2, recreate), deployment(2, nil), false, true},
		"Recreate goes with the copy":                  {deploymentKind(), deployment(2, nil), deployment(2, recreate), false, true},
		"all may be missing":                           {deploymentKind(), deployment(2, rolling(int64(1), "100%")), deployment(2, nil), false, true},
		"one of one may be missing":                    {deploymentKind(), deployment(1, rolling(int64(1), int64(1))), deployment(1, nil), false, true},
		"one of two may be missing":                    {deploymentKind(), deployment(2, rolling(int64(0), int64(1))), deployment(2, nil), false, false},
		"more may be missing than there are":           {deploymentKind(), deployment(2, rolling(int64(0), int64(5))), deployment(2, nil), false, true},
		"half of one is none, which surges":            {deploymentKind(), deployment(1, rolling("50%", "50%")), deployment(1, nil), false, false},
		"half of one is none, and none surges":         {deploymentKind(), deployment(1, rolling(int64(0), "50%")), deployment(1, nil), false, true},
		"half of three is one":                         {deploymentKind(), deployment(3, rolling(int64(0), "50%")), deployment(3, nil), false, false},
		"fewer pods come with the copy":                {deploymentKind(), deployment(1, rolling(int64(1), int64(1))), deployment(3, nil), false, true},
		"an autoscaler keeps their number":             {deploymentKind(), deployment(1, rolling(int64(1), int64(1))), deployment(3, nil), true, false},
		"a target without pods says nothing":           {deploymentKind(), deployment(0, rolling(int64(1), int64(1))), deployment(3, nil), false, false},
		"a DaemonSet on one node":                      {daemonSetKind(), daemons(1, nil), daemons(1, nil), false, true},
		"a DaemonSet on two nodes":                     {daemonSetKind(), daemons(2, nil), daemons(2, nil), false, false},
		"a DaemonSet that surges":                      {daemonSetKind(), daemons(1, rolling(int64(1), int64(0))), daemons(1, rolling("10%", int64(0))), false, false},
		"a DaemonSet rounds up: 51 % of two are two":   {daemonSetKind(), daemons(2, rolling(int64(0), "51%")), daemons(2, nil), false, true},
		"a DaemonSet rounds up: 34 % of three are two": {daemonSetKind(), daemons(3, rolling(int64(0), "34%")), daemons(3, nil), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			canary := &v1beta1.Canary{}
			if c.scaled {
				canary.Spec.AutoscalerRef = &v1beta1.AutoscalerReference{Name: "podinfo"}
			}
			if got := c.kind.stopsFirst(canary, c.target, c.primary); got != c.want {
				t.Errorf("stops first: %t, want %t", got, c.want)
			}
		})
	}
}
