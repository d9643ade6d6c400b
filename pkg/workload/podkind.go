package workload

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagger.app/flagger/pkg/fingerprint"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
)

// podKind is what the kinds of workloads differ in that run pods made from one template.
type podKind struct {
	kind     string
	resource schema.GroupVersionResource
	// counted is whether spec.replicas says how many pods there are.
	counted bool
	// replicas is the wanted number of pods, available the field of the status that counts those that serve.
	replicas  func(*unstructured.Unstructured) int64
	available string
	// stopping is whether pods are reported of a workload that is to have none.
	stopping func(*unstructured.Unstructured) bool
	// flaggerHash is what Flagger records for the pod template.
	flaggerHash func(raw map[string]any) (string, error)
	// health is as deploymentHealth.
	health func(*unstructured.Unstructured, healthLimits, time.Time) (rollout.Health, time.Time)
	// unreadyInUpdate is whether an update of the object, with so many pods, may leave none of them ready.
	unreadyInUpdate func(d *unstructured.Unstructured, pods int64) bool
	// adapt turns the pod spec of a target, in place, into that of its primary.
	adapt func(podSpec map[string]any, rename renaming)
}

func deploymentKind() podKind {
	return podKind{
		kind:        "Deployment",
		resource:    schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"},
		counted:     true,
		replicas:    func(d *unstructured.Unstructured) int64 { return intAt(d.Object, 1, "spec", "replicas") },
		available:   "availableReplicas",
		stopping:    deploymentStopping,
		flaggerHash: fingerprint.FlaggerDeployment,
		health:      deploymentHealth,

		unreadyInUpdate: deploymentUnready,

		adapt: spreadPrimary,
	}
}

func daemonSetKind() podKind {
	return podKind{
		kind:        "DaemonSet",
		resource:    schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "daemonsets"},
		replicas:    daemonSetReplicas,
		available:   "numberAvailable",
		stopping:    daemonSetStopping,
		flaggerHash: fingerprint.FlaggerDaemonSet,
		health:      daemonSetHealth,

		unreadyInUpdate: daemonSetUnready,

		// The copy does not keep away from itself: at most one of its pods is on a node anyway.
		adapt: func(podSpec map[string]any, _ renaming) { unpark(podSpec) },
	}
}

func (k podKind) ref(namespace, name string) router.Ref {
	return router.Ref{Resource: k.resource, Kind: k.kind, Namespace: namespace, Name: name}
}

// noun is the kind as messages have it.
func (k podKind) noun() string { return strings.ToLower(k.kind) }

// described names an object in messages: deployment podinfo.test.
func described(obj *unstructured.Unstructured) string {
	return fmt.Sprintf("%s %s.%s", strings.ToLower(obj.GetKind()), obj.GetName(), obj.GetNamespace())
}
