package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/test/dashboards"
)

// TestDashboards asks what the dashboards of the operator and of applications ask, during real rollouts, of two real servers: the Prometheus
// of the chart, which leaves the labels of Canaries alone, and one that renames their namespace.
func TestDashboards(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	all, err := dashboards.Read(os.Getenv("ROOT"))
	t.must(err)
	// Pods don't reach a server of this process, but they reach podinfo, which answers as it is asked to.
	answers := func(code int) string { return fmt.Sprintf("http://podinfo-primary.%s:9898/status/%d", t.ns, code) }
	t.apply(fmt.Sprintf("{apiVersion: flagger.app/v1beta1, kind: AlertProvider, metadata: {name: receiver}, spec: {type: webhook, address: %q}}", answers(http.StatusOK)))
	t.install("flagger/pod")
	t.apply(scraped(podinfo(1)))
	t.create(canary((&receiver{}).hears, func(c *v1beta1.Canary) {
		c.Spec.SkipAnalysis = true
		c.Spec.Analysis.Webhooks = []v1beta1.CanaryWebhook{
			{Type: v1beta1.RolloutHook, Name: "load", URL: answers(http.StatusOK)},
			{Type: v1beta1.ConfirmPromotionHook, Name: "gate", URL: answers(http.StatusForbidden)},
		}
	}))
	t.settled(v1beta1.CanaryPhaseInitialized)
	servers := map[string]*screen{}
	for _, address := range []string{"http://flagger-prometheus." + t.ns + ".svc.cluster.local:9090", "http://prometheus.monitoring.svc.cluster.local:9090"} {
		servers[address] = &screen{t, address, map[string]bool{}}
	}
	// One rollout of each kind: without analysis, one that fails, and one that waits for its promotion.
	t.ship(v2)
	t.settled(v1beta1.CanaryPhaseSucceeded)
	t.edit(func(s *v1beta1.CanarySpec) {
		s.SkipAnalysis, s.Analysis.Metrics[0].TemplateVariables["value"] = false, "50"
	})
	t.ship(v3)
	t.settled(v1beta1.CanaryPhaseFailed)
	t.edit(func(s *v1beta1.CanarySpec) { s.Analysis.Metrics[0].TemplateVariables["value"] = "100" })
	t.ship(v1)
	t.until("the wait for promotion", func(c *v1beta1.Canary) bool { return c.Status.Phase == v1beta1.CanaryPhaseWaitingPromotion })
	// Only the end of this rollout brings the number of those that were promoted.
	const promoted = `analysis_status="completed"`
	// A share is measured by the metrics of a mesh or ingress, which there is none of here.
	const measured = "flagger_canary_measured_weight"
	for _, s := range servers {
		s.shows(all["application"], map[string]string{"namespace": t.ns, "target": "podinfo"})
		s.shows(all["operator"], map[string]string{"namespace": t.ns}, promoted, measured)
	}
	t.edit(func(s *v1beta1.CanarySpec) { s.Analysis.Webhooks[1].URL = answers(http.StatusOK) })
	t.settled(v1beta1.CanaryPhaseSucceeded)
	for _, s := range servers {
		s.shows(all["operator"], map[string]string{"namespace": t.ns}, measured)
	}
}

// screen shows dashboards by what a Prometheus answers.
type screen struct {
	team    *team
	address string
	// answered are the queries that had a number for an answer.
	answered map[string]bool
}

// shows waits until every query of a dashboard has been answered by a number once, but for those that have one of the texts in them.
func (s *screen) shows(d dashboards.Dashboard, wanted map[string]string, but ...string) {
	s.team.Helper()
	var missing error
	err := wait.PollUntilContextTimeout(s.team.Context(), 500*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		missing = s.missing(ctx, d, wanted, but)
		return missing == nil, nil
	})
	if err != nil {
		s.team.Fatalf("%s: dashboard %s: %v", s.address, d.Title, missing)
	}
}

// missing is the first query without data. The rates are those of the whole test: a rollout may be over between two scrapes.
func (s *screen) missing(ctx context.Context, d dashboards.Dashboard, wanted map[string]string, but []string) error {
	values, err := d.Choose(func(query string) ([]map[string]string, error) {
		labels, _, err := s.ask(ctx, query)
		return labels, err
	}, wanted)
	if err != nil {
		return err
	}
	values[dashboards.Interval] = "30m"
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			query := dashboards.Fill(target.Expr, values)
			if s.answered[query] || slices.ContainsFunc(but, func(text string) bool { return strings.Contains(query, text) }) {
				continue
			}
			_, numbers, err := s.ask(ctx, query)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", panel.Title, query, err)
			}
			if !slices.ContainsFunc(numbers, func(n string) bool { return n != "NaN" }) {
				return fmt.Errorf("%s shows nothing: %s is %q", panel.Title, query, numbers)
			}
			s.answered[query] = true
		}
	}
	return nil
}

// ask returns the labels and the values of the answer to a query.
func (s *screen) ask(ctx context.Context, query string) (labels []map[string]string, numbers []string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.address+"/api/v1/query?query="+url.QueryEscape(query), http.NoBody)
	if err != nil {
		return nil, nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	var answer struct {
		Error string
		Data  struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", query, err)
	}
	if answer.Error != "" {
		return nil, nil, fmt.Errorf("%s: %s", query, answer.Error)
	}
	for _, one := range answer.Data.Result {
		labels, numbers = append(labels, one.Metric), append(numbers, fmt.Sprint(one.Value[1]))
	}
	return labels, numbers, nil
}
