package e2e

import (
	"net/http"
	"net/http/httptest"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// gatekeeper answers the webhooks of a Canary: those of a type pass while it is open.
type gatekeeper struct {
	url  string
	team *team
	mu   sync.Mutex
	// open looks at the Canary as it is recorded. A gate without it is closed.
	open map[v1beta1.HookType]func(*v1beta1.Canary) bool
}

// gatekeeper starts with all gates closed.
func (t *team) gatekeeper() *gatekeeper {
	g := &gatekeeper{team: t, open: map[v1beta1.HookType]func(*v1beta1.Canary) bool{}}
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	g.url = server.URL
	return g
}

func (g *gatekeeper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := g.team.flagger.FlaggerV1beta1().Canaries(g.team.ns).Get(r.Context(), "podinfo", metav1.GetOptions{})
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	g.mu.Lock()
	open := g.open[v1beta1.HookType(r.URL.Path[1:])]
	g.mu.Unlock()
	if open == nil || !open(c) {
		w.WriteHeader(http.StatusForbidden)
	}
}

// set opens or closes the gate of a type. An open rollback gate asks for a rollback.
func (g *gatekeeper) set(hook v1beta1.HookType, open bool) {
	g.when(hook, func(*v1beta1.Canary) bool { return open })
}

// when opens the gate of a type for what the Canary is like. A step is on record before the gate to the next one is asked, so
// that no step is taken which the gate was not meant for.
func (g *gatekeeper) when(hook v1beta1.HookType, open func(*v1beta1.Canary) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open[hook] = open
}

// upTo lets the weight of the canary grow up to a percentage.
func (g *gatekeeper) upTo(weight int32) {
	g.when(v1beta1.ConfirmTrafficIncreaseHook, func(c *v1beta1.Canary) bool { return c.Status.CanaryWeight < weight })
}

// asks gives a Canary a webhook of each type.
func (g *gatekeeper) asks(hooks ...v1beta1.HookType) func(*v1beta1.Canary) {
	return func(c *v1beta1.Canary) {
		for _, hook := range hooks {
			c.Spec.Analysis.Webhooks = append(c.Spec.Analysis.Webhooks,
				v1beta1.CanaryWebhook{Type: hook, Name: string(hook), URL: g.url + "/" + string(hook)})
		}
	}
}
