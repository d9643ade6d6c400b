package metrics

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// guardedServer answers 7 to those who show a token, and repeats what it got to all others.
func guardedServer(t *testing.T) (server *httptest.Server, accept func(token string), last func() http.Header) {
	t.Helper()
	var mu sync.Mutex
	var wanted string
	var seen http.Header
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = r.Header
		if r.Header.Get("Authorization") != "Bearer "+wanted {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprintf(w, "%s is not welcome", r.Header.Get("Authorization"))
			return
		}
		fmt.Fprint(w, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"7"]}]}}`)
	}))
	t.Cleanup(server.Close)
	return server, func(token string) {
			mu.Lock()
			defer mu.Unlock()
			wanted = token
		}, func() http.Header {
			mu.Lock()
			defer mu.Unlock()
			return seen
		}
}

// changing is a Secret that changes, or can't be read.
type changing struct {
	token string
	err   error
	reads int
}

func (c *changing) SecretData(context.Context, string, string) (map[string][]byte, error) {
	c.reads++
	if c.err != nil {
		return nil, c.err
	}
	return map[string][]byte{"token": []byte(c.token)}, nil
}

// The Secret is read again within ten seconds. One that can't be read for now stays what it was.
func TestSecretOfTheMetricsServer(t *testing.T) {
	server, accept, last := guardedServer(t)
	secret := &changing{token: "first-secret"}
	clk := clocktesting.NewFakePassiveClock(time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC))
	e := store{}.evaluator("")
	e.Secrets, e.Clock = secret, clk
	e.Server = Server{
		Address: server.URL, Secret: types.NamespacedName{Namespace: "monitoring", Name: "mimir"},
		Headers: map[string][]string{"X-Scope-OrgID": {"team-a"}},
	}
	c := withMetrics(v1beta1.CanaryMetric{Name: "request-success-rate"}, v1beta1.CanaryMetric{Name: "mine", Query: "up"})
	forbidden := errors.New("the API server is gone")
	for _, step := range []struct {
		name, token string
		err         error
		later       time.Duration
		accepted    string
		state       analysis.State
		says        string
		reads       int
	}{
		{"first", "first-secret", nil, 0, "first-secret", analysis.Value, "", 1},
		{"changed, not read yet", "second-secret", nil, 9 * time.Second, "second-secret", analysis.Failed, "401 Unauthorized: Bearer *** is not welcome", 1},
		{"changed", "second-secret", nil, time.Second, "second-secret", analysis.Value, "", 2},
		{"not readable for now", "", forbidden, time.Minute, "second-secret", analysis.Value, "", 3},
		{"gone", "", apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, "mimir"), time.Minute, "second-secret", analysis.Unusable, "secret monitoring/mimir error: ", 4},
		{"back", "third-secret", nil, time.Minute, "third-secret", analysis.Value, "", 5},
	} {
		secret.token, secret.err = step.token, step.err
		clk.SetTime(clk.Now().Add(step.later))
		accept(step.accepted)
		for _, r := range e.Read(t.Context(), c) {
			if r.State != step.state || !strings.Contains(r.Cause, step.says) || strings.Contains(r.Cause, "-secret ") {
				t.Errorf("%s: %v of %s: %q", step.name, r.State, r.Metric.Name, r.Cause)
			}
		}
		if secret.reads != step.reads {
			t.Errorf("%s: read %d times, want %d", step.name, secret.reads, step.reads)
		}
	}
	if got := last().Get("X-Scope-OrgID"); got != "team-a" {
		t.Errorf("tenant %q", got)
	}
	// The server says 7 to everything, so it is not online. But it was asked with the credentials.
	if err := e.CheckServer(t.Context()); err == nil || !strings.Contains(err.Error(), "returned 7") {
		t.Error(err)
	}
}

// Whoever may write a Canary could send the credentials of the operator's server anywhere.
func TestMetricsServerOfACanaryGetsNoCredentials(t *testing.T) {
	server, accept, last := guardedServer(t)
	accept("prometheus-secret")
	e := store{}.evaluator("")
	e.Secrets = &changing{token: "prometheus-secret"}
	e.Server = Server{
		Address: "http://127.0.0.1:1", Secret: types.NamespacedName{Namespace: "monitoring", Name: "mimir"},
		Headers: map[string][]string{"X-Scope-OrgID": {"team-a"}}, Region: "eu-central-1", SkipVerify: true,
	}
	c := withMetrics(v1beta1.CanaryMetric{Name: "mine", Query: "up"})
	c.Spec.MetricsServer = server.URL
	e.Read(t.Context(), c)
	if h := last(); h.Get("Authorization") != "" || h.Get("X-Scope-OrgID") != "" || h.Get("X-Amz-Date") != "" {
		t.Errorf("it got %v", h)
	}
}
