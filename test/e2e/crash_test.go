package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// requests asks the application without a pause and counts what became of it.
type requests struct {
	sent, lost int
	first      string
	stop       context.CancelFunc
	wait       sync.WaitGroup
}

// load sends requests to the Service of the team, each on a connection of its own, until end is called.
func (t *team) load() *requests { return t.loadTo("podinfo."+t.ns+".svc.cluster.local:9898", "") }

// loadTo sends them to an address, for a host if it is not empty.
func (t *team) loadTo(address, host string) *requests {
	ctx, stop := context.WithCancel(t.Context())
	r := &requests{stop: stop}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext}}
	pace := time.NewTicker(20 * time.Millisecond)
	r.wait.Go(func() {
		defer pace.Stop()
		for ctx.Err() == nil {
			<-pace.C
			r.sent++
			if err := ask(client, address, host); err != nil {
				r.lost++
				r.first += fmt.Sprintf("%s %v\n", time.Now().Format(time.TimeOnly), err)
			}
		}
	})
	return r
}

func ask(client *http.Client, address, host string) error {
	request, err := http.NewRequest(http.MethodGet, "http://"+address+"/version", http.NoBody)
	if err != nil {
		return err
	}
	request.Host = host
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

func (r *requests) end() {
	r.stop()
	r.wait.Wait()
}

// TestKilled kills the operator at random moments of rollouts and starts another one. The end is always the same, no request
// is lost, and users are told everything once.
func TestKilled(tt *testing.T) {
	tt.Parallel()
	const teams, kills = 4, 5
	seed := rand.Uint64()
	tt.Logf("seed %d", seed)
	for i := range teams {
		tt.Run(fmt.Sprint(i), func(tt *testing.T) {
			tt.Parallel()
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			t := newTeam(tt)
			t.apply(podinfo(1))
			t.available("podinfo")
			o := t.operate()
			load := t.onboard()
			for k := range kills {
				o = t.surviveKill(o, []string{v2, v1}[k%2], time.Duration(random.IntN(7000))*time.Millisecond)
			}
			load.end()
			if load.lost > 0 || load.sent < 100 {
				t.Errorf("%d of %d requests lost:\n%s", load.lost, load.sent, load.first)
			}
			events := t.events()
			for text, want := range map[string]int{"Copying": kills, "Promotion completed!": kills, "Scaling up": kills,
				"Canary failed!": 0, "Restarting": 0, "canary weight 20": kills, "canary weight 40": kills, "canary weight 60": kills} {
				if n := count(events, text); n != want {
					t.Errorf("%q told %d times, want %d:\n%s", text, n, want, strings.Join(events, "\n"))
				}
			}
		})
	}
}

// onboard creates the Canary and begins to send requests: through the gateway where there is one, else to the Service.
func (t *team) onboard() *requests {
	t.Helper()
	gateway := os.Getenv("GATEWAY")
	if gateway == "" {
		t.create(canary())
		t.settled(v1beta1.CanaryPhaseInitialized)
		return t.load()
	}
	t.create(canary(func(c *v1beta1.Canary) { c.Spec.Provider = "contour" }))
	t.settled(v1beta1.CanaryPhaseInitialized)
	host := t.ns + ".example.com"
	_, err := t.dynamic.Resource(httpProxies).Namespace(t.ns).Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "projectcontour.io/v1", "kind": "HTTPProxy",
		"metadata": map[string]any{"name": "ingress"},
		"spec": map[string]any{
			"virtualhost": map[string]any{"fqdn": host},
			"includes":    []any{map[string]any{"name": "podinfo"}},
		},
	}}, metav1.CreateOptions{})
	t.must(err)
	for client := (&http.Client{Timeout: time.Second}); ask(client, gateway, host) != nil; {
		t.must(t.Context().Err())
	}
	return t.loadTo(gateway, host)
}

// surviveKill ships an image, kills the operator after a while, and sees another one finish the rollout.
func (t *team) surviveKill(o *operator, image string, after time.Duration) *operator {
	t.Helper()
	t.ship(image)
	timer := time.NewTimer(after)
	defer timer.Stop()
	<-timer.C
	o.kill()
	next := t.operate()
	c := t.until("promotion of "+image, func(c *v1beta1.Canary) bool {
		return c.Status.Phase == v1beta1.CanaryPhaseSucceeded && len(c.Status.Rollout.Outbox) == 0 && t.primaryRuns(image)
	})
	if c.Status.Rollout.Promoted.Fingerprint != c.Status.LastPromotedSpec || c.Status.CanaryWeight != 0 {
		t.Errorf("killed after %s: status %+v", after, c.Status)
	}
	if p, w := t.weights(c.Spec.Provider); p != 100 || w != 0 {
		t.Errorf("killed after %s: routes end at %d/%d", after, p, w)
	}
	if n, _ := t.replicas("podinfo"); n != 0 {
		t.Errorf("killed after %s: the target keeps %d replicas", after, n)
	}
	return next
}

func (t *team) primaryRuns(image string) bool {
	d, err := t.kube.AppsV1().Deployments(t.ns).Get(t.Context(), "podinfo-primary", metav1.GetOptions{})
	return err == nil && d.Spec.Template.Spec.Containers[0].Image == image
}
