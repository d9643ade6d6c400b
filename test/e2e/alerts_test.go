package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/notify"
)

// What a receiver is told of the lives that the Canaries here lead.
const (
	onboarded = "info: New Deployment detected, initialization completed."
	begun     = "info: New revision detected, progressing canary analysis."
	succeeded = "info: Canary analysis completed successfully, promotion finished."
	tooMany   = "error: Failed checks threshold reached 2"
)

// receiver is a real one of the alerts of a team.
type receiver struct {
	team *team
	mu   sync.Mutex
	got  []string
}

// receiver starts one, which an AlertProvider names.
func (t *team) receiver() *receiver {
	t.Helper()
	r := &receiver{team: t}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	t.apply(fmt.Sprintf(`
apiVersion: flagger.app/v1beta1
kind: AlertProvider
metadata: {name: receiver}
spec: {type: webhook, address: %s}
`, server.URL))
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	var a notify.Generic
	err := json.NewDecoder(request.Body).Decode(&a)
	if want := (notify.GenericCanary{Name: "podinfo", Namespace: r.team.ns}); err != nil || a.Type != "alert" || a.Canary != want || a.Key == "" {
		r.team.Errorf("alert %+v, %v", a, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, a.Severity+": "+a.Message)
	w.WriteHeader(http.StatusNoContent)
}

// hears has a Canary tell the receiver everything.
func (r *receiver) hears(c *v1beta1.Canary) {
	c.Spec.Analysis.Alerts = []v1beta1.CanaryAlert{{
		Name: "receiver", Severity: v1beta1.SeverityInfo, ProviderRef: v1beta1.CrossNamespaceObjectReference{Name: "receiver"},
	}}
}

// heard checks the alerts so far, which have all arrived when the Canary has nothing left to tell: each once.
func (r *receiver) heard(want ...string) {
	r.team.Helper()
	r.mu.Lock()
	got := slices.Clone(r.got)
	r.mu.Unlock()
	if diff := cmp.Diff(want, got); diff != "" {
		r.team.Errorf("alerts (-want +got):\n%s", diff)
	}
}

// A canary that answers with 404 is taken back by the share of them, which a MetricTemplate asks the Prometheus for that scrapes its
// pods. Until there is a value the rollout waits.
func TestShareOfNotFoundTakesBack(tt *testing.T) {
	tt.Parallel()
	l := newLoaded(tt, 1)
	t, tester, r := l.team, l.loadTester(), l.receiver()
	t.apply(`
apiVersion: flagger.app/v1beta1
kind: MetricTemplate
metadata: {name: not-found-percentage}
spec:
  provider: {type: prometheus, address: http://prometheus.monitoring:9090}
  query: |
    100 * sum(rate(http_requests_total{namespace="{{ namespace }}", pod=~"{{ target }}-[0-9a-z]+-[0-9a-z]+", status="404"}[{{ interval }}]))
    / sum(rate(http_requests_total{namespace="{{ namespace }}", pod=~"{{ target }}-[0-9a-z]+-[0-9a-z]+"}[{{ interval }}]))
`)
	t.operate()
	most := 5.0
	t.create(canary(r.hears, func(c *v1beta1.Canary) {
		c.Spec.Analysis.Metrics = []v1beta1.CanaryMetric{{
			Name: "404s percentage", Interval: "30s", ThresholdRange: &v1beta1.CanaryThresholdRange{Max: &most},
			TemplateRef:  &v1beta1.CrossNamespaceObjectReference{Name: "not-found-percentage"},
			MetricPolicy: v1beta1.MetricPolicy{NoData: v1beta1.NoDataHold},
		}}
		c.Spec.Analysis.Webhooks = []v1beta1.CanaryWebhook{{
			Name: "load-test", URL: tester.url + "/", Metadata: &map[string]string{
				"cmd": "hey -z 1m -q 10 -c 2 http://podinfo-canary." + t.ns + ":9898/status/404",
			},
		}}
	}))
	t.settled(v1beta1.CanaryPhaseInitialized)
	t.ship(v2)
	t.settled(v1beta1.CanaryPhaseFailed)
	if _, image := t.replicas("podinfo-primary"); image != v1 {
		t.Errorf("primary runs %s", image)
	}
	if n := count(t.events(), "advancement 404s percentage "); n != 2 {
		t.Errorf("%d failed checks in %q", n, t.events())
	}
	r.heard(onboarded, begun, tooMany)
}
