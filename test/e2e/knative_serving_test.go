package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	watchtools "k8s.io/client-go/tools/watch"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// knativeIngresses are what Knative makes for whoever implements its ingresses.
var knativeIngresses = schema.GroupVersionResource{Group: "networking.internal.knative.dev", Version: "v1alpha1", Resource: "ingresses"}

// knativeImage is podinfo under a name that Knative does not look up in a registry.
func knativeImage(version string) string { return "dev.local/podinfo:" + version }

// serving is an application that Knative serves, with its real controllers. The test does the part of those that implement its
// ingresses, which is to have Contour route as they say.
type serving struct {
	*team
	// backends are those that Contour was told of so far, by name. It tells Envoy of routes and of what is behind them independently: one
	// that is new gets requests when Envoy has found its pods, and none is taken away. Implementations of ingresses see to that.
	backends map[string]map[string]any
	// weights are those that it was told last.
	weights map[string]any
}

func newServing(tt *testing.T) *serving {
	tt.Helper()
	needsBed(tt)
	if _, err := os.Stat(filepath.Join(os.Getenv("TESTBED_STATE"), "programs", "knative-controller")); err != nil {
		tt.Skip("Knative does not run here: run make e2e-knative")
	}
	s := &serving{team: newTeam(tt), backends: map[string]map[string]any{}}
	s.routeByContour()
	s.apply(fmt.Sprintf(`
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: podinfo}
spec:
  template:
    metadata: {annotations: {autoscaling.knative.dev/min-scale: "1"}}
    spec:
      containers:
      - image: %s
        command: [./podinfo, --port=9898, --level=info]
        ports: [{containerPort: 9898}]
        readinessProbe: {httpGet: {path: /readyz, port: 9898}, periodSeconds: 1}
---
%s`, knativeImage("6.9.2"), constant))
	s.untilServed(1)
	return s
}

// untilServed waits until Knative says that a revision, counted from 1, is the latest and ready, and that its routes are in force.
func (s *serving) untilServed(revision int) {
	s.Helper()
	s.wait(knativeServices, "podinfo", func(u *unstructured.Unstructured) bool {
		ready, _, _ := unstructured.NestedString(u.Object, "status", "latestReadyRevisionName")
		conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
		for _, c := range conditions {
			if m := c.(map[string]any); m["type"] == "Ready" && m["status"] == "True" {
				return ready == revisionName(revision)
			}
		}
		return false
	})
}

// shipVersion changes the image and nothing else.
func (s *serving) shipVersion(version string) {
	s.Helper()
	patch := fmt.Sprintf(`[{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": %q}]`, knativeImage(version))
	_, err := s.dynamic.Resource(knativeServices).Namespace(s.ns).Patch(s.Context(), "podinfo", types.JSONPatchType, []byte(patch), metav1.PatchOptions{})
	s.must(err)
}

// host is the name by which Knative serves the application.
func (s *serving) host() string { return "podinfo." + s.ns + ".svc.cluster.local" }

// routeByContour implements the ingress of the application until the end of the test.
func (s *serving) routeByContour() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	lw := watchOf(ctx, s.dynamic.Resource(knativeIngresses).Namespace(s.ns), "podinfo")
	go func() {
		defer close(done)
		_, _ = watchtools.UntilWithSync(ctx, lw, &unstructured.Unstructured{}, nil, func(e watch.Event) (bool, error) {
			if ingress, ok := e.Object.(*unstructured.Unstructured); ok && e.Type != watch.Deleted {
				if err := s.implement(ctx, ingress.DeepCopy()); err != nil && !apierrors.IsConflict(err) && ctx.Err() == nil {
					s.Errorf("ingress of Knative: %v", err)
				}
			}
			return false, nil
		})
	}()
	s.Cleanup(func() {
		cancel()
		<-done
	})
}

// implement makes an HTTPProxy of the splits of an ingress, and reports the ingress to be in force.
func (s *serving) implement(ctx context.Context, ingress *unstructured.Unstructured) error {
	rules, _, _ := unstructured.NestedSlice(ingress.Object, "spec", "rules")
	if len(rules) == 0 {
		return nil
	}
	paths, _, _ := unstructured.NestedSlice(rules[0].(map[string]any), "http", "paths")
	// A path with a header condition is for those who ask for a revision by its tag.
	splits, _, _ := unstructured.NestedSlice(paths[len(paths)-1].(map[string]any), "splits")
	weights := map[string]any{}
	var added []string
	for _, item := range splits {
		split := item.(map[string]any)
		name := split["serviceName"].(string)
		var headers []any
		appended, _, _ := unstructured.NestedStringMap(split, "appendHeaders")
		for header, value := range appended {
			headers = append(headers, map[string]any{"name": header, "value": value})
		}
		if s.backends[name] == nil {
			added = append(added, name)
		}
		s.backends[name] = map[string]any{"name": name, "port": split["servicePort"], "requestHeadersPolicy": map[string]any{"set": headers}}
		weights[name] = split["percent"]
	}
	if len(added) > 0 && len(added) < len(s.backends) {
		if err := s.lead(ctx, s.weights); err != nil {
			return err
		}
		if err := s.found(ctx, added); err != nil {
			return err
		}
	}
	if err := s.lead(ctx, weights); err != nil {
		return err
	}
	s.weights = weights
	return s.report(ctx, ingress)
}

// lead has Contour share the requests out by weights. The other backends stay, without requests.
func (s *serving) lead(ctx context.Context, weights map[string]any) error {
	var services []any
	for _, name := range slices.Sorted(maps.Keys(s.backends)) {
		service := maps.Clone(s.backends[name])
		if service["weight"] = weights[name]; service["weight"] == nil {
			service["weight"] = int64(0)
		}
		services = append(services, service)
	}
	route := map[string]any{"conditions": []any{map[string]any{"prefix": "/"}}, "services": services}
	proxy := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "projectcontour.io/v1", "kind": "HTTPProxy", "metadata": map[string]any{"name": "podinfo"},
		"spec": map[string]any{"virtualhost": map[string]any{"fqdn": s.host()}, "routes": []any{route}},
	}}
	_, err := s.dynamic.Resource(contourPlane().route.Resource).Namespace(s.ns).Apply(ctx, "podinfo", proxy,
		metav1.ApplyOptions{FieldManager: "ingress", Force: true})
	return err
}

// found waits until Envoy has healthy pods for each of these backends.
func (s *serving) found(ctx context.Context, names []string) error {
	return wait.PollUntilContextTimeout(ctx, pace, patience, true, func(ctx context.Context) (bool, error) {
		// What can't be had says nothing of any backend, and is asked for again.
		stats, err := bodyOf("http://" + contourPlane().stats)
		return err == nil && !slices.ContainsFunc(names, func(name string) bool {
			healthy := regexp.MustCompile(`(?m)^envoy_cluster_membership_healthy\{envoy_cluster_name="` + s.ns + "_" + name + `_[^"]*"\} [1-9]`)
			return !healthy.Match(stats)
		}), nil
	})
}

// report says that an ingress is in force.
func (s *serving) report(ctx context.Context, ingress *unstructured.Unstructured) error {
	observed, _, _ := unstructured.NestedInt64(ingress.Object, "status", "observedGeneration")
	if observed == ingress.GetGeneration() {
		return nil
	}
	var ready []any
	at := time.Now().UTC().Format(time.RFC3339)
	for _, condition := range []string{"LoadBalancerReady", "NetworkConfigured", "Ready"} {
		ready = append(ready, map[string]any{"type": condition, "status": "True", "lastTransitionTime": at})
	}
	balancer := map[string]any{"ingress": []any{map[string]any{"domainInternal": "envoy.projectcontour.svc.cluster.local"}}}
	ingress.Object["status"] = map[string]any{
		"observedGeneration": ingress.GetGeneration(), "conditions": ready, "publicLoadBalancer": balancer, "privateLoadBalancer": balancer,
	}
	_, err := s.dynamic.Resource(knativeIngresses).Namespace(s.ns).UpdateStatus(ctx, ingress, metav1.UpdateOptions{})
	return err
}

// TestKnativeServing rolls out revisions of a Service that the real Knative serves: its webhooks accept what is written, its
// controllers make the revisions and route to them. Not one request is lost, from before the Canary to after its end.
func TestKnativeServing(tt *testing.T) {
	s := newServing(tt)
	l := &loaded{team: s.team, plane: contourPlane(), host: s.host()}
	l.comeBy("")
	l.load = s.loadTo(l.plane.address, l.host)
	s.operate("-mesh-provider", "knative", "-route-propagation-delay", "3s")
	s.create(canary(revertOnDeletion, func(c *v1beta1.Canary) {
		c.Spec.Provider = ""
		c.Spec.TargetRef = v1beta1.LocalObjectReference{APIVersion: "serving.knative.dev/v1", Kind: "Service", Name: "podinfo"}
		c.Spec.Service = v1beta1.CanaryService{}
		c.Spec.Analysis.Interval = "2s"
	}))
	s.settled(v1beta1.CanaryPhaseInitialized)
	s.expectKnative(1, 0)
	l.load.comeFrom(s.team, "6.9.2")

	s.shipVersion("6.9.3")
	s.until("weight 60", func(c *v1beta1.Canary) bool { return c.Status.CanaryWeight == 60 })
	s.settled(v1beta1.CanaryPhaseSucceeded)
	s.expectKnative(2, 0)
	l.load.comeFrom(s.team, "6.9.3")

	l.metric("0")
	s.shipVersion("6.9.2")
	s.settled(v1beta1.CanaryPhaseFailed)
	s.expectKnative(2, 0)
	l.load.comeFrom(s.team, "6.9.3")

	s.deleteCanary()
	s.gone(v1beta1.SchemeGroupVersion.WithResource("canaries"), "podinfo")
	s.wait(knativeServices, "podinfo", func(u *unstructured.Unstructured) bool { return u.GetAnnotations()[primaryRevision] == "" })
	l.load.end(s)
	if events := strings.Join(s.events(), "\n"); strings.Contains(events, "admission webhook") {
		s.Errorf("Knative refused something:\n%s", events)
	}
}
