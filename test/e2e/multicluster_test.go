package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

const (
	// away is for how long a cluster is away: longer than a step of the analysis, and shorter than the progress deadline.
	away = 12 * time.Second
	// shortly is how long the operator waits for an answer in these tests.
	shortly = "5s"
)

// TestTwoClusters_RoutesAreInThatOfTheMesh leads a Canary through its life while the routing objects are in another cluster: they are made
// there alone, without an owner that nobody knows there, and go under a former name and with the Canary. One of a user is given back.
func TestTwoClusters_RoutesAreInThatOfTheMesh(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	m := newMeshCluster(t)
	mesh := m.inMesh(t)
	mesh.apply(`
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: web}
spec: {hosts: [web.example.com], gateways: [edge], http: [{timeout: 7s, route: [{destination: {host: podinfo}}]}]}
`)
	t.apply(podinfo(1))
	t.operate("-kubeconfig-service-mesh", m.kubeconfig)
	t.create(canary(revertOnDeletion))
	t.settled(v1beta1.CanaryPhaseInitialized)
	t.expect(virtualServices, map[string]bool{"podinfo": false})
	t.expect(destinationRules, map[string]bool{"podinfo-primary": false, "podinfo-canary": false})
	route, err := mesh.dynamic.Resource(virtualServices).Namespace(t.ns).Get(t.Context(), "podinfo", metav1.GetOptions{})
	t.must(err)
	if owners := route.GetOwnerReferences(); len(owners) > 0 {
		t.Errorf("the route has the owners %v", owners)
	}
	t.ship(v2)
	t.settled(v1beta1.CanaryPhaseSucceeded)
	if got, want := m.written("podinfo"), []int64{0, 20, 40, 60, 0}; !slices.Equal(got, want) {
		t.Errorf("weights %v, want %v", got, want)
	}

	t.renameTo("web")
	t.retired(v1beta1.RoutingRef{Service: "web", Provider: "istio"}, v1beta1.RoutingRef{Service: "podinfo", Released: true})
	mesh.expect(virtualServices, map[string]bool{"podinfo": false, "web": true})
	mesh.expect(destinationRules, map[string]bool{"podinfo-primary": false, "podinfo-canary": false, "web-primary": true, "web-canary": true})
	t.deleteCanary()
	t.gone(v1beta1.SchemeGroupVersion.WithResource("canaries"), "podinfo")
	mesh.expect(virtualServices, map[string]bool{"podinfo": false, "web": true})
	mesh.expect(destinationRules, map[string]bool{"web-primary": false, "web-canary": false})
	users, err := mesh.dynamic.Resource(virtualServices).Namespace(t.ns).Get(t.Context(), "web", metav1.GetOptions{})
	t.must(err)
	if hosts, _, _ := unstructured.NestedStringSlice(users.Object, "spec", "hosts"); !slices.Equal(hosts, []string{"web.example.com"}) {
		t.Errorf("the route of the user is left with the hosts %v", hosts)
	}
}

// TestTwoClusters_OneIsAwayDuringARun takes one of two clusters away in the middle of a rollout: its API server dies, or nobody hears from
// it. The rollout goes on afterwards where it was: no route is reset, and nothing is rolled back.
func TestTwoClusters_OneIsAwayDuringARun(tt *testing.T) {
	tt.Parallel()
	for name, leave := range map[string]func(t *team, m *meshCluster, main, mesh *outage) (back func()){
		"API server of the mesh dies": func(_ *team, m *meshCluster, _, _ *outage) func() { m.stop(); return m.start },
		"mesh refuses":                func(_ *team, _ *meshCluster, _, mesh *outage) func() { mesh.begin(unsent); return mesh.end },
		"mesh does not answer":        func(_ *team, _ *meshCluster, _, mesh *outage) func() { mesh.begin(held); return mesh.end },
		"main refuses":                func(_ *team, _ *meshCluster, main, _ *outage) func() { main.begin(unsent); return main.end },
		"main does not answer":        func(_ *team, _ *meshCluster, main, _ *outage) func() { main.begin(held); return main.end },
	} {
		tt.Run(name, func(tt *testing.T) {
			t := newTeam(tt)
			m := newMeshCluster(t)
			main, mesh := t.outage(t.config), t.outage(m.config)
			t.apply(podinfo(1))
			t.operate("-kubeconfig", main.proxy.kubeconfig(t), "-kubeconfig-service-mesh", mesh.proxy.kubeconfig(t), "-kubeconfig-timeout", shortly)
			t.create(canary())
			t.settled(v1beta1.CanaryPhaseInitialized)
			t.ship(v2)
			t.until("weight 20", func(c *v1beta1.Canary) bool { return c.Status.CanaryWeight == 20 })
			back := leave(t, m, main, mesh)
			letPass(away)
			if phase := t.read().Status.Phase; phase != v1beta1.CanaryPhaseProgressing {
				t.Errorf("phase %s while a cluster is away", phase)
			}
			back()
			t.settled(v1beta1.CanaryPhaseSucceeded)
			if got, want := m.written("podinfo"), []int64{0, 20, 40, 60, 0}; !slices.Equal(got, want) {
				t.Errorf("weights %v, want %v", got, want)
			}
			if n, image := t.replicas("podinfo-primary"); n != 1 || image != v2 {
				t.Errorf("the primary has %d replicas of %s", n, image)
			}
			for _, e := range t.events() {
				if strings.Contains(e, "olling back") || strings.Contains(e, "ailed!") {
					t.Errorf("event %q", e)
				}
			}
		})
	}
}

// TestTwoClusters_MeshIsAwayForTooLong takes the cluster of the mesh away for longer than the progress deadline. The rollout is taken
// back, as one is whose routes are refused for that long, and its routes follow once they can.
func TestTwoClusters_MeshIsAwayForTooLong(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	m := newMeshCluster(t)
	mesh := t.outage(m.config)
	t.apply(podinfo(1))
	t.operate("-kubeconfig-service-mesh", mesh.proxy.kubeconfig(t), "-kubeconfig-timeout", shortly)
	t.create(canary())
	t.settled(v1beta1.CanaryPhaseInitialized)
	t.edit(func(s *v1beta1.CanarySpec) { s.ProgressDeadlineSeconds = new(int32(5)) })
	t.ship(v2)
	m.inMesh(t).wait(virtualServices, "podinfo", func(u *unstructured.Unstructured) bool { return canaryWeight(u) == 20 })
	mesh.begin(unsent)
	t.until("the rollback", func(c *v1beta1.Canary) bool { return c.Status.Rollout.Stage == "rollback" })
	if weights := m.written("podinfo"); weights[len(weights)-1] == 0 {
		t.Errorf("weights %v, although nobody can write them", weights)
	}
	mesh.end()
	t.settled(v1beta1.CanaryPhaseFailed)
	if weights := m.written("podinfo"); weights[len(weights)-1] != 0 {
		t.Errorf("weights %v, want 0 in the end", weights)
	}
}

// healthyOf is the message of the condition Healthy.
func healthyOf(c *v1beta1.Canary) string {
	for _, condition := range c.Status.Conditions {
		if condition.Type == v1beta1.HealthyType {
			return condition.Message
		}
	}
	return ""
}

// TestTwoClusters_MeshIsAwayAtTheStart starts an operator while nobody hears from the cluster of the mesh. It is ready, and whoever needs no mesh
// is served; whoever does is told what is missing, and served as soon as it is there.
func TestTwoClusters_MeshIsAwayAtTheStart(tt *testing.T) {
	tt.Parallel()
	for _, how := range []fault{unsent, held} {
		tt.Run(string(how), func(tt *testing.T) {
			t := newTeam(tt)
			m := newMeshCluster(t)
			mesh := t.outage(m.config)
			mesh.begin(how)
			t.apply(podinfo(1))
			plain, _, _ := strings.Cut(podinfo(1), "\n---\n")
			t.apply(strings.NewReplacer("name: podinfo,", "name: plain,", "app: podinfo}", "app: plain}").Replace(plain))
			o := t.operate("-kubeconfig-service-mesh", mesh.proxy.kubeconfig(t), "-kubeconfig-timeout", shortly)
			t.create(canary())
			t.create(canary(func(c *v1beta1.Canary) {
				c.Name, c.Spec.TargetRef.Name, c.Spec.Provider = "plain", "plain", "kubernetes"
				c.Spec.Analysis.StepWeight, c.Spec.Analysis.MaxWeight, c.Spec.Analysis.Iterations = 0, 0, 1
			}))
			t.untilCanary("plain", "the Canary that needs no mesh", func(c *v1beta1.Canary) bool { return c.Status.Phase == v1beta1.CanaryPhaseInitialized })
			t.until("what is missing to be told", func(c *v1beta1.Canary) bool { return strings.Contains(healthyOf(c), "networking.istio.io") })
			response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/readyz", o.port))
			t.must(err)
			_ = response.Body.Close()
			if response.StatusCode != http.StatusOK {
				t.Errorf("the operator is not ready: status %d", response.StatusCode)
			}
			mesh.end()
			t.settled(v1beta1.CanaryPhaseInitialized)
			m.inMesh(t).expect(virtualServices, map[string]bool{"podinfo": true})
		})
	}
}

// TestTwoClusters_MeshIsAwayDuringADeletion deletes Canaries while nobody hears from the cluster of the mesh. They stay, with the routes, and say
// why. One goes when the cluster is back, with its routes. The other goes as soon as somebody removes its finalizer.
func TestTwoClusters_MeshIsAwayDuringADeletion(tt *testing.T) {
	tt.Parallel()
	canaries := v1beta1.SchemeGroupVersion.WithResource("canaries")
	for _, reverts := range []bool{false, true} {
		for _, restarted := range []bool{false, true} {
			tt.Run(fmt.Sprintf("reverts=%t,restarted=%t", reverts, restarted), func(tt *testing.T) {
				t := newTeam(tt)
				m := newMeshCluster(t)
				mesh := t.outage(m.config)
				t.apply(podinfo(1))
				args := []string{"-kubeconfig-service-mesh", mesh.proxy.kubeconfig(t), "-kubeconfig-timeout", shortly}
				o := t.operate(args...)
				t.create(canary(func(c *v1beta1.Canary) { c.Spec.RevertOnDeletion = reverts }))
				t.settled(v1beta1.CanaryPhaseInitialized)
				mesh.begin(unsent)
				if restarted {
					t.must(o.stop())
					t.operate(args...)
				}
				t.deleteCanary()
				t.until("the reason to be told", func(c *v1beta1.Canary) bool {
					return strings.Contains(healthyOf(c), v1beta1.Finalizer) && slices.Contains(c.Finalizers, v1beta1.Finalizer)
				})
				if reverts && restarted {
					// The documented way out of a mesh that is gone for good.
					patch := []byte(`{"metadata":{"finalizers":null}}`)
					_, err := t.dynamic.Resource(canaries).Namespace(t.ns).Patch(t.Context(), "podinfo", types.MergePatchType, patch, metav1.PatchOptions{})
					t.must(err)
					t.gone(canaries, "podinfo")
					m.inMesh(t).expect(virtualServices, map[string]bool{"podinfo": true})
					return
				}
				letPass(away)
				m.inMesh(t).expect(virtualServices, map[string]bool{"podinfo": true})
				mesh.end()
				t.gone(canaries, "podinfo")
				m.inMesh(t).expect(virtualServices, map[string]bool{"podinfo": false})
			})
		}
	}
}
