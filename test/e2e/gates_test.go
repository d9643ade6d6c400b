package e2e

import (
	"net/http"
	"net/http/httptest"
	"sync"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// gatekeeper answers the webhooks of a Canary: those of a type pass while it is open.
type gatekeeper struct {
	url  string
	mu   sync.Mutex
	open map[v1beta1.HookType]bool
}

// gatekeeper starts with all gates closed.
func (t *team) gatekeeper() *gatekeeper {
	g := &gatekeeper{open: map[v1beta1.HookType]bool{}}
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	g.url = server.URL
	return g
}

func (g *gatekeeper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.open[v1beta1.HookType(r.URL.Path[1:])] {
		w.WriteHeader(http.StatusForbidden)
	}
}

// set opens or closes the gate of a type. An open rollback gate asks for a rollback.
func (g *gatekeeper) set(hook v1beta1.HookType, open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open[hook] = open
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
