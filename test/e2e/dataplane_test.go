package e2e

import (
	"context"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/registry"
)

// planeVariable names, in the environment, the data plane that the applications are behind.
const planeVariable = "DATAPLANE"

// dataPlanes lists those that the tests know. The same cases hold for each.
func dataPlanes() []*dataPlane {
	return append([]*dataPlane{
		contourPlane(),
		skipperPlane(),
		gatewayAPIPlane("gatewayapi", "default", "gatewayapi", "10.244.255.1:8080", "10.244.255.1:8006/stats/prometheus",
			ability{header: true, cookie: true, beside: true, affinity: true, mirror: true}),
		traefikPlane(),
		gatewayAPIPlane("traefik-gatewayapi", "default", "traefik", "10.244.255.1:81", "10.244.255.1:8003/metrics",
			ability{header: true, cookie: true, beside: true}),
	}, istioPlanes()...)
}

// dataPlane is a gateway or a mesh that requests really go through: how an application gets behind it, how requests reach it,
// and what it is able to do.
type dataPlane struct {
	// name is the value of DATAPLANE, and provider that of spec.provider.
	name, provider string
	// address takes requests for the host of a team, as host:port.
	address string
	// host is what they are for, empty means NAMESPACE.example.com.
	host string
	// stats is where it exports its metrics, as host:port/path. It is empty where pods do that, which go: what Prometheus has of them
	// is asked for then, by the names that metrics match.
	stats, metrics string
	// shared is a manifest, possibly empty, of what all teams use. Its objects say their namespace.
	shared string
	// service is a manifest of what a user has who has no Canary yet: the way from the gateway to the Service.
	service string
	// preview and canary replace parts of it, where users have to lead requests to what the operator makes: first those with
	// the header X-Preview, then all. They are empty where the operator takes the route of the user over, or copies it.
	//
	// The route to the Service, in all three, sets the header X-Route of its answers to "service".
	preview, canary string
	// spec completes a Canary for the host of a team. It may be nil.
	spec func(c *v1beta1.Canary, host string)
	// takesOver is whether the route of the operator is that of the user, who gets it back.
	takesOver bool
	// able is what beside weights the data plane does for a Canary.
	able ability
	// route is what the operator leads requests by.
	route router.Ref
	// tampered is a merge patch by which somebody else leads all requests to the canary, annotated one that touches nothing
	// which the operator owns.
	tampered string
	// beside is a manifest by which somebody else leads the requests for a host to the canary, where the data plane counts those as
	// requests of the canary. It is empty where it does not.
	beside string
	// settings are arguments of the operator beside those of all.
	settings []string
}

// ability is what some data planes do and others don't.
type ability struct {
	// header and cookie: A/B tests of requests by their headers and by their cookies. beside: a header that leads to the canary
	// while others are shared out.
	header, cookie, beside bool
	// affinity: sessions that stay on their side. mirror: copies of requests, and share: of a percentage of them.
	affinity, mirror, share bool
}

// planeUnderTest is the data plane that the environment names, nil if it names none.
func planeUnderTest(t testing.TB) *dataPlane {
	t.Helper()
	name := os.Getenv(planeVariable)
	if name == "" {
		return nil
	}
	all := dataPlanes()
	at := slices.IndexFunc(all, func(p *dataPlane) bool { return p.name == name })
	if at < 0 {
		t.Fatalf("%s=%s: there is no such data plane", planeVariable, name)
	}
	return all[at]
}

// complete makes a Canary one for the data plane.
func (p *dataPlane) complete(c *v1beta1.Canary, host string) {
	c.Spec.Provider = p.provider
	if p.spec != nil {
		p.spec(c, host)
	}
}

// hostOf is the host of the application in a namespace.
func (p *dataPlane) hostOf(namespace string) string {
	host := "NAMESPACE.example.com"
	if p != nil && p.host != "" {
		host = p.host
	}
	return strings.ReplaceAll(host, "NAMESPACE", namespace)
}

// shareOnce makes what all teams use, once.
var shareOnce sync.Once

// behind puts the application of a team behind the data plane, without a Canary.
func (l *loaded) behind() {
	l.Helper()
	shareOnce.Do(func() { l.put(l.plane.shared) })
	l.stage(l.plane.service)
	l.comeBy("service")
}

// leadToCanary points the user's route to what the operator made.
func (l *loaded) leadToCanary() {
	l.Helper()
	if l.plane.canary == "" {
		return
	}
	l.lead(l.plane.preview, "", "X-Preview")
	l.comeBy("service")
	l.lead(l.plane.canary, "")
}

// leadToService points it back to the Service, which the operator gives back.
func (l *loaded) leadToService() {
	l.Helper()
	if l.plane.canary == "" {
		return
	}
	l.lead(l.plane.preview, "service")
	l.comeBy("", "X-Preview")
	l.lead(l.plane.service, "service", "X-Preview")
}

// lead changes the route of the user, and waits until requests with the headers are led by it.
//
// A gateway may be told about routes and about what is behind them independently. So both are known, by a preview, before all
// requests change over.
func (l *loaded) lead(manifest, by string, headers ...string) {
	l.Helper()
	l.stage(manifest)
	l.comeBy(by, headers...)
}

// stage writes the route of the user.
func (l *loaded) stage(manifest string) {
	l.Helper()
	l.put(strings.NewReplacer("HOST", l.host, "NAMESPACE", l.ns).Replace(manifest))
}

// comeBy waits until requests with the headers are answered by a route many times in a row.
func (l *loaded) comeBy(route string, headers ...string) {
	l.Helper()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for good := 0; good < 20; good++ {
		l.must(l.Context().Err())
		if _, by, err := ask(client, "http://"+l.plane.address+"/version", l.host, headers...); err != nil || by != route {
			good = 0
		}
	}
}

// put creates or changes the objects of a manifest, in the namespace of the team unless they name another one.
func (t *team) put(manifest string) {
	t.Helper()
	for document := range strings.SplitSeq(manifest, "\n---\n") {
		u := &unstructured.Unstructured{}
		t.must(yaml.Unmarshal([]byte(document), &u.Object))
		if u.Object == nil {
			continue
		}
		resource, _ := meta.UnsafeGuessKindToResource(u.GroupVersionKind())
		if u.GetKind() == "Gateway" {
			resource.Resource = "gateways"
		}
		namespace := u.GetNamespace()
		if namespace == "" {
			namespace = t.ns
		}
		_, err := t.dynamic.Resource(resource).Namespace(namespace).Apply(t.Context(), u.GetName(), u, metav1.ApplyOptions{FieldManager: "user", Force: true})
		if err != nil {
			t.Fatalf("%s %s: %v", u.GetKind(), u.GetName(), err)
		}
	}
}

// live reads objects as they are now.
type live struct {
	ctx context.Context
	*bed
}

// Get implements router.Live.
func (l live) Get(ref router.Ref) (*unstructured.Unstructured, error) {
	o, err := l.dynamic.Resource(ref.Resource).Namespace(ref.Namespace).Get(l.ctx, ref.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return o, err
}

// routed is what the route of the provider says.
func (t *team) routed(provider string) router.Traffic {
	t.Helper()
	traffic, err := t.readRoute(provider)
	t.must(err)
	return traffic
}

// readRoute fails where the route says nothing that the provider understands.
func (t *team) readRoute(provider string) (router.Traffic, error) {
	p, err := registry.New(registry.Config{}).Provider(provider)
	if err != nil {
		return router.Traffic{}, err
	}
	c, err := t.flagger.FlaggerV1beta1().Canaries(t.ns).Get(t.Context(), "podinfo", metav1.GetOptions{})
	if err != nil {
		return router.Traffic{}, err
	}
	observed, err := router.For(p, c).Read(c, live{t.Context(), t.bed})
	return observed.Traffic, err
}
