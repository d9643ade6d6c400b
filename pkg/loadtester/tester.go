package loadtester

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/outbound"
)

// Options of a Tester.
type Options struct {
	// Timeout is when a task is ended.
	Timeout time.Duration
	// MaxCommands is how many tasks run at a time, at least 1.
	MaxCommands int
	// Namespaces, if not nil, has to match the namespace in a payload.
	Namespaces *regexp.Regexp
	// Shell is whether payloads may bring a script for a shell, ShellNamespaces whose may. None means all.
	Shell           bool
	ShellNamespaces []string
	// BuiltIn are commands that another program is, called with their name as its first argument, by its path. What is on the PATH
	// comes first.
	BuiltIn map[string]string
	// Gates are where the state of gates is kept.
	Gates Gates
	Clock clock.Clock
	Log   *zap.Logger
	// Metrics is where the metrics are registered.
	Metrics prometheus.Registerer
}

// Tester answers the webhooks of Canaries.
type Tester struct {
	options Options
	runs    *runs
	metrics *metrics
	// transports lead to the services that run tests themselves.
	transports *outbound.Transports
}

// New returns a Tester. This process becomes the parent of all orphans among its descendants.
func New(o Options) (*Tester, error) {
	if o.Timeout <= 0 || o.MaxCommands < 1 {
		return nil, errors.New("-timeout must be more than 0 and -max-commands at least 1")
	}
	if err := adoptOrphans(); err != nil {
		return nil, err
	}
	m := newMetrics(o.Metrics)
	return &Tester{options: o, runs: newRuns(o, m), metrics: m, transports: outbound.NewTransports(o.Clock)}, nil
}

// Stop ends all tasks, and returns when they have ended.
func (t *Tester) Stop() { t.runs.stop() }

// Handler serves gates, and tasks on every other path.
func (t *Tester) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/gate/approve", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "OK") })
	mux.HandleFunc("/gate/halt", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusForbidden, "Forbidden") })
	for prefix, kind := range map[string]string{"/gate/": kindGate, "/rollback/": kindRollback} {
		mux.HandleFunc(prefix+"check", t.check(kind))
		mux.HandleFunc(prefix+"open", t.set(kind, true))
		mux.HandleFunc(prefix+"close", t.set(kind, false))
	}
	mux.HandleFunc("/", t.task)
	return mux
}

// check answers whether a gate is open. One whose state can't be read is not, and the operator asks again.
func (t *Tester) check(kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		g, ok := t.gate(w, r, kind)
		if !ok {
			return
		}
		open, err := t.options.Gates.Open(r.Context(), g)
		switch {
		case err != nil:
			t.gateFailed(w, g, err)
		case open:
			answer(w, http.StatusOK, "Approved")
		default:
			answer(w, http.StatusForbidden, "Forbidden")
		}
	}
}

func (t *Tester) set(kind string, open bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !changing(w, r) {
			return
		}
		g, ok := t.gate(w, r, kind)
		if !ok {
			return
		}
		if err := t.options.Gates.Set(r.Context(), g, open); err != nil {
			t.gateFailed(w, g, err)
			return
		}
		t.options.Log.Info("gate set", zap.String("canary", g.Name+"."+g.Namespace), zap.String("gate", kind), zap.Bool("open", open))
		w.WriteHeader(http.StatusAccepted)
	}
}

func (t *Tester) gateFailed(w http.ResponseWriter, g Gate, err error) {
	t.options.Log.Error("state of gate", zap.String("canary", g.Name+"."+g.Namespace), zap.String("gate", g.Kind), zap.Error(err))
	answer(w, http.StatusServiceUnavailable, fmt.Sprintf("state of the gate of %s.%s: %v", g.Name, g.Namespace, err))
}

// gate reads which gate a payload is about.
func (t *Tester) gate(w http.ResponseWriter, r *http.Request, kind string) (Gate, bool) {
	p, ok := t.payload(w, r)
	if !ok {
		return Gate{}, false
	}
	if p.Name == "" || p.Namespace == "" {
		answer(w, http.StatusBadRequest, `name and namespace of the Canary must be set, as in {"name":"podinfo","namespace":"test"}`)
		return Gate{}, false
	}
	return Gate{Kind: kind, Namespace: p.Namespace, Name: p.Name}, true
}

// shell is whether payloads of a namespace may bring a script.
func (t *Tester) shell(namespace string) bool {
	allowed := t.options.ShellNamespaces
	return t.options.Shell && (len(allowed) == 0 || slices.Contains(allowed, namespace))
}

// changing refuses requests that only mean to read, as a browser and a crawler send them.
func changing(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodPost || r.Method == http.MethodPut {
		return true
	}
	w.Header().Set("Allow", "POST, PUT")
	answer(w, http.StatusMethodNotAllowed, "send a POST with the payload of a webhook")
	return false
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	// A caller that hung up is not our problem.
	_, _ = w.Write([]byte(text))
}

// waitFor is false if the caller left before the run had its result.
func waitFor(ctx context.Context, begun *run) bool {
	select {
	case <-begun.done:
		return true
	case <-ctx.Done():
		return false
	}
}
