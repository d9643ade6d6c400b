package e2e

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// hanging is a server that takes requests and answers none. It tells of each that comes, and of each that is given up.
type hanging struct {
	url          string
	asked, ended chan struct{}
}

func (t *team) hanging() *hanging {
	h := &hanging{asked: make(chan struct{}, 1000), ended: make(chan struct{}, 1000)}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		// A server hears of a connection that is closed once it has read the request.
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		h.asked <- struct{}{}
		<-r.Context().Done()
		h.ended <- struct{}{}
	}))
	t.Cleanup(server.Close)
	h.url = server.URL
	return h
}

// await waits for what a channel tells.
func (t *team) await(what string, told <-chan struct{}) {
	t.Helper()
	select {
	case <-told:
	case <-time.After(patience):
		t.Fatalf("waiting for %s\n%v", what, t.events())
	}
}

// leads waits until status and routes give the canary its share in percent.
func (l *loaded) leads(weight int32) {
	l.Helper()
	l.weighs(weight)
	provider := l.read().Spec.Provider
	// Routes follow the status, which does not change again.
	l.must(wait.PollUntilContextTimeout(l.Context(), pace, patience, true, func(context.Context) (bool, error) {
		return l.routed(provider).Canary == weight, nil
	}))
}

// unready makes the pods of the canary say that they are not ready, for good. They go on to answer whoever still asks them.
func (l *loaded) unready() {
	l.Helper()
	for _, pod := range l.podsOf("podinfo") {
		err := l.kube.CoreV1().RESTClient().Post().Namespace(l.ns).Resource("pods").Name(pod + ":9898").SubResource("proxy").
			Suffix("readyz/disable").Do(l.Context()).Error()
		// One of the revision before may just go, or have gone.
		live, gone := l.kube.CoreV1().Pods(l.ns).Get(l.Context(), pod, metav1.GetOptions{})
		if gone == nil && live.DeletionTimestamp == nil {
			l.must(err)
		} else if !apierrors.IsNotFound(gone) {
			l.must(gone)
		}
	}
}

// TestHangingWebhook asks a webhook that never answers about a canary that has half of the traffic. Whatever keeps users safe acts
// meanwhile, and nobody's request is lost by it. The timeout of the webhook is longer than any test waits.
func TestHangingWebhook(tt *testing.T) {
	tt.Parallel()
	for name, happens := range map[string]func(l *loaded, h *hanging) (from time.Time){
		"the canary loses its pods": func(l *loaded, h *hanging) time.Time {
			l.unready()
			l.leads(0)
			l.await("the end of the question", h.ended)
			// A gateway finds nobody behind the canary before it hears that it need not look there.
			l.load.comeFrom(l.team, versionOf(v1))
			return time.Now()
		},
		"a newer revision": func(l *loaded, h *hanging) time.Time {
			run := l.read().Status.Rollout.Run
			l.ship(v3)
			c := l.until("another run", func(c *v1beta1.Canary) bool { return c.Status.Rollout.Run > run })
			if c.Status.CanaryWeight != 0 {
				l.Errorf("a revision that was not analyzed gets %d%% of the requests", c.Status.CanaryWeight)
			}
			l.await("the end of the question", h.ended)
			l.leads(50)
			l.await("a question about it", h.asked)
			l.ship(v1)
			l.settled(v1beta1.CanaryPhaseSucceeded)
			l.leads(0)
			l.await("the end of that question", h.ended)
			return time.Time{}
		},
		"the Canary is deleted": func(l *loaded, h *hanging) time.Time {
			if l.plane != nil {
				l.leadToService()
			}
			l.deleteCanary()
			l.await("the end of the question", h.ended)
			l.gone(v1beta1.SchemeGroupVersion.WithResource("canaries"), "podinfo")
			l.isGivenBack(v2)
			return time.Time{}
		},
		"the Canary is suspended": func(l *loaded, h *hanging) time.Time {
			l.edit(func(s *v1beta1.CanarySpec) { s.Suspend = true })
			l.until("the condition", func(c *v1beta1.Canary) bool {
				healthy := healthy(c)
				return healthy != nil && healthy.Status == corev1.ConditionFalse && healthy.Reason == "Suspended"
			})
			l.await("the end of the question", h.ended)
			l.leads(50)
			l.edit(func(s *v1beta1.CanarySpec) { s.Suspend = false })
			l.await("the question to be asked again", h.asked)
			return time.Time{}
		},
	} {
		tt.Run(name, func(tt *testing.T) {
			tt.Parallel()
			l := newLoaded(tt, 1)
			h := l.hanging()
			l.begin()
			l.operates()
			l.onboard(revertOnDeletion, func(c *v1beta1.Canary) {
				if l.plane == nil {
					c.Spec.Provider = "istio"
				}
				a := c.Spec.Analysis
				a.Interval, a.Iterations, a.StepWeight, a.MaxWeight = "1s", 0, 50, 50
				a.Webhooks = []v1beta1.CanaryWebhook{{Name: "load", URL: h.url, Timeout: "30m", Type: v1beta1.RolloutHook}}
			})
			l.ship(v2)
			l.leads(50)
			l.await("a question without an answer", h.asked)
			from := happens(l, h)
			l.load.goOn(l.team, 40)
			l.load.endSince(l, from)
		})
	}
}
