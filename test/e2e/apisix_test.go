package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// apisixModule has the CRDs and the rights of the ingress controller.
const apisixModule = "github.com/apache/apisix-ingress-controller@v1.8.4"

// apisixController is the ingress controller, told of an Admin API that is ADDRESS.
const apisixController = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: apisix-ingress-controller, namespace: ingress-apisix}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: apisix-ingress-controller, namespace: ingress-apisix}
spec:
  selector: {matchLabels: {app: apisix-ingress-controller}}
  template:
    metadata: {labels: {app: apisix-ingress-controller}}
    spec:
      serviceAccountName: apisix-ingress-controller
      containers:
      - name: controller
        image: apache/apisix-ingress-controller:1.8.4
        command: [/ingress-apisix/apisix-ingress-controller, ingress, --apisix-admin-api-version=v3, --default-apisix-cluster-base-url=ADDRESS, --log-level=warn]
        env:
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
`

var apisixRoutes = schema.GroupVersionResource{Group: "apisix.apache.org", Version: "v2", Resource: "apisixroutes"}

// apisix runs the ingress controller, once for all tests, and returns what it writes to.
var apisix = sync.OnceValues(func() (*adminAPI, error) {
	b, err := shared()
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	for _, kind := range []string{"ClusterConfig", "Consumer", "GlobalRule", "PluginConfig", "Route", "Tls", "Upstream"} {
		file, err := downloadedFile(apisixModule, "samples/deploy/crd/v1/Apisix"+kind+".yaml")
		if err != nil {
			return nil, err
		}
		if err := b.install(ctx, file); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	if err := b.grantApisix(ctx); err != nil {
		return nil, err
	}
	return newAdminAPI()
})

// grantApisix makes the namespace of the ingress controller and gives it its rights.
func (b *bed) grantApisix(ctx context.Context) error {
	file, err := downloadedFile(apisixModule, "samples/deploy/rbac/apisix_view_clusterrole.yaml")
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	role := &rbacv1.ClusterRole{}
	if err := yaml.Unmarshal(raw, role); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ingress-apisix"}}
	if _, err := b.kube.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := b.kube.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{}); err != nil {
		return err
	}
	_, err = b.kube.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "apisix-ingress-controller"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: "apisix-ingress-controller", Namespace: namespace.Name}},
	}, metav1.CreateOptions{})
	return err
}

// gated is an application behind an ApisixRoute. The requests of its load go to its Service.
type gated struct {
	*loaded
	api *adminAPI
	// anybody and insider ask for the application, neighbor for another one on the same host.
	anybody, insider, neighbor *visitor
}

func needsApisix(t *testing.T) {
	t.Helper()
	needsBed(t)
	if os.Getenv("APISIX") == "" {
		t.Skip("run make e2e-apisix")
	}
}

func newGated(tt *testing.T) *gated {
	tt.Helper()
	needsApisix(tt)
	api, err := apisix()
	if err != nil {
		tt.Fatal(err)
	}
	g := &gated{loaded: newLoaded(tt, 1), api: api}
	g.controlled()
	g.anybody = &visitor{host: g.host, path: "/"}
	g.insider = &visitor{host: g.host, path: "/", header: headers("X-Insider: yes")}
	g.neighbor = &visitor{host: g.host, path: "/other/x"}
	g.stage(usersRoute)
	for _, v := range []*visitor{g.anybody, g.insider} {
		g.gets(v, map[string]int{"podinfo": 100})
	}
	g.gets(g.neighbor, map[string]int{"other": 100})
	for _, v := range []*visitor{g.anybody, g.insider, g.neighbor} {
		tt.Cleanup(api.visit(v))
	}
	g.begin()
	g.operates()
	return g
}

// controlled runs the ingress controller, if it does not run yet.
func (g *gated) controlled() {
	g.Helper()
	g.put(strings.ReplaceAll(apisixController, "ADDRESS", g.api.url))
}

// usersRoute leads to two applications.
const usersRoute = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: other}
spec:
  selector: {matchLabels: {app: other}}
  template:
    metadata: {labels: {app: other}}
    spec: {containers: [{name: podinfod, image: "stefanprodan/podinfo:6.9.2", command: [./podinfo, --port=9898]}]}
---
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {selector: {app: other}, ports: [{port: 80, targetPort: 9898}]}
---
apiVersion: apisix.apache.org/v2
kind: ApisixRoute
metadata: {name: edge}
spec:
  http:
  - name: other
    match: {hosts: [HOST], paths: [/other/*]}
    backends: [{serviceName: other, servicePort: 80}]
  - name: app
    match: {hosts: [HOST], paths: [/*]}
    plugins: [{name: prometheus, enable: true, config: {prefer_name: true}}]
    backends: [{serviceName: podinfo, servicePort: 9898}]
`

// behindApisix names the route of the user in a Canary.
func behindApisix(edits ...func(*v1beta1.Canary)) []func(*v1beta1.Canary) {
	return append([]func(*v1beta1.Canary){func(c *v1beta1.Canary) {
		c.Spec.Provider = "apisix"
		c.Spec.RouteRef = &v1beta1.LocalObjectReference{APIVersion: "apisix.apache.org/v2", Kind: "ApisixRoute", Name: "edge"}
		a := c.Spec.Analysis
		a.Iterations, a.StepWeight, a.MaxWeight, a.Interval = 0, 20, 60, "1s"
	}}, edits...)
}

// gets waits until the requests of a visitor get to Services as wanted.
func (g *gated) gets(v *visitor, want map[string]int) {
	g.Helper()
	ctx, cancel := context.WithTimeout(g.Context(), patience)
	defer cancel()
	g.must(g.api.until(ctx, v, want))
}

// done checks that nothing was lost: neither of the requests to the Service, nor of those that a gateway would have got.
func (g *gated) done() {
	g.Helper()
	g.load.end(g)
	g.api.mu.Lock()
	defer g.api.mu.Unlock()
	for _, v := range []*visitor{g.anybody, g.insider, g.neighbor} {
		if len(v.faults) > 0 {
			g.Errorf("requests to %s%s fail:\n%s", v.host, v.path, strings.Join(v.faults, "\n"))
		}
	}
	if got := g.neighbor.of("other"); !cmp.Equal(got, []int{100}) {
		g.Errorf("the other application gets %v of 100 requests", got)
	}
}

func sides(canary int) map[string]int {
	all := map[string]int{}
	if canary < 100 {
		all["podinfo-primary"] = 100 - canary
	}
	if canary > 0 {
		all["podinfo-canary"] = canary
	}
	return all
}

// The real ingress controller is followed through whole rollouts: what it pushes to the gateway sends requests where each step
// wants them, and at no time to a Service without pods.
func TestApisix(tt *testing.T) {
	for name, live := range map[string]func(*gated){
		"weights": apisixWeights, "rollback and repair": apisixTrouble, "A/B": apisixTest, "deletion": apisixDeletion,
	} {
		tt.Run(name, func(tt *testing.T) {
			tt.Parallel()
			g := newGated(tt)
			live(g)
			g.done()
		})
	}
}

func apisixWeights(g *gated) {
	weights := []int32{10, 30, 50, 80}
	g.onboard(behindApisix(g.inSteps(weights...))...)
	g.gets(g.anybody, sides(0))
	g.roll(v1beta1.CanaryPhaseSucceeded, func() { g.ship(v2) }, func() {
		for _, w := range weights {
			g.upTo(w)
			g.weighs(w)
			g.gets(g.anybody, sides(int(w)))
			g.gets(g.insider, sides(int(w)))
		}
		g.set(v1beta1.ConfirmPromotionHook, true)
	})
	g.rests(v2)
	g.gets(g.anybody, sides(0))
	g.api.mu.Lock()
	defer g.api.mu.Unlock()
	if got := g.anybody.of("podinfo-canary"); !cmp.Equal(got, []int{0, 10, 30, 50, 80, 0}) {
		g.Errorf("the gateway was told to send %v of 100 requests to the canary", got)
	}
}

func apisixTrouble(g *gated) {
	g.onboard(behindApisix(g.inSteps(30, 60))...)
	g.roll(v1beta1.CanaryPhaseFailed, func() { g.ship(v2) }, func() {
		g.upTo(30)
		g.weighs(30)
		g.gets(g.anybody, sides(30))
		g.o.kill()
		g.patch(apisixRoutes, "edge-podinfo-canary", `{"metadata":{"labels":{"example.com/team":"shop"}}}`)
		g.operates()
		g.patch(apisixRoutes, "edge-podinfo-canary", `{"spec":{"http":[{"name":"app","match":{"hosts":["`+g.host+`"],"paths":["/*"]},
			"priority":10000,"backends":[{"serviceName":"podinfo-primary","servicePort":9898,"weight":0},
			{"serviceName":"podinfo-canary","servicePort":9898,"weight":100}]}]}}`)
		g.until("repair of the weights", func(c *v1beta1.Canary) bool { return g.team.routed(c.Spec.Provider).Canary == 30 })
		g.gets(g.anybody, sides(30))
		g.metric("50")
	})
	g.rests(v1)
	g.gets(g.anybody, sides(0))
}

func apisixTest(g *gated) {
	g.onboard(behindApisix(g.asks(v1beta1.ConfirmPromotionHook), func(c *v1beta1.Canary) {
		a := c.Spec.Analysis
		a.StepWeight, a.MaxWeight, a.Iterations = 0, 0, 2
		a.Match = []v1beta1.AnalysisMatch{byHeader(), byCookie()}
	})...)
	withCookie := &visitor{host: g.host, path: "/", header: http.Header{"Cookie": {"a=b; insider=yes"}}}
	outsider := &visitor{host: g.host, path: "/", header: headers("X-Insider: no")}
	g.roll(v1beta1.CanaryPhaseSucceeded, func() { g.ship(v2) }, func() {
		g.enters(v1beta1.CanaryPhaseWaitingPromotion)
		g.gets(g.insider, sides(100))
		g.gets(withCookie, sides(100))
		// All others go by the route of the user to the Service, which selects the primary.
		g.gets(g.anybody, map[string]int{"podinfo": 100})
		g.gets(outsider, map[string]int{"podinfo": 100})
		g.set(v1beta1.ConfirmPromotionHook, true)
	})
	g.rests(v2)
	g.gets(g.anybody, sides(0))
	g.gets(g.insider, sides(0))
	g.api.mu.Lock()
	defer g.api.mu.Unlock()
	if got := g.insider.of("podinfo-canary"); !cmp.Equal(got, []int{0, 100, 0}) {
		g.Errorf("the gateway was told to send %v of 100 requests of insiders to the canary", got)
	}
	if got := g.anybody.of("podinfo-canary"); !cmp.Equal(got, []int{0}) {
		g.Errorf("the gateway was told to send %v of 100 requests of others to the canary", got)
	}
}

func apisixDeletion(g *gated) {
	g.onboard(behindApisix(revertOnDeletion)...)
	g.gets(g.anybody, sides(0))
	g.deleteCanary()
	g.gone(v1beta1.SchemeGroupVersion.WithResource("canaries"), "podinfo")
	g.gone(apisixRoutes, "edge-podinfo-canary")
	g.gets(g.anybody, map[string]int{"podinfo": 100})
}

// example reads a file of the folder of examples, and skips the test where there is none.
func example(t *testing.T, name string) string {
	t.Helper()
	file := filepath.Join(os.Getenv("ROOT"), "..", "shared", "examples", name)
	raw, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		t.Skipf("%s is not there", file)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
