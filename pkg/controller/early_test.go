package controller

import (
	"slices"
	"testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// In a namespace that is injected, pods without a virtual node are refused: the nodes have to be there before the primary.
func TestVirtualNodesComeBeforePods(t *testing.T) {
	canary := canaryFor("podinfo")
	canary.Object["spec"].(map[string]any)["provider"] = "appmesh:v1beta2"
	a := newAPI(t, readyDeployment("podinfo", 2), canary)
	a.serve("appmesh.k8s.aws/v1beta2", "virtualnodes", "virtualrouters", "virtualservices")
	l := newLoop(t, a, 1).start()
	l.untilPhase("podinfo", v1beta1.CanaryPhaseInitialized)
	node, primary := slices.Index(a.recorded(), "create virtualnodes"), slices.Index(a.recorded(), "create deployments")
	routes := slices.Index(a.recorded(), "create virtualrouters")
	if node < 0 || primary < node || routes < primary {
		t.Errorf("calls %q, want the nodes before the primary before the routers", a.recorded())
	}
}
