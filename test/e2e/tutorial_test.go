package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	corev1 "k8s.io/api/core/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// tutorial is a page that leads an application through its life.
type tutorial struct{ text string }

func readTutorial(t *testing.T, name string) tutorial {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(os.Getenv("ROOT"), "docs", "tutorials", name+".md"))
	if err != nil {
		t.Fatal(err)
	}
	return tutorial{string(text)}
}

// events are those that a section of the page shows.
func (p tutorial) events(section string) []string {
	_, rest, _ := strings.Cut(p.text, "\n## "+section+"\n")
	rest, _, _ = strings.Cut(rest, "\n## ")
	var events []string
	for line := range strings.Lines(rest) {
		if _, message, found := strings.Cut(strings.TrimSpace(line), "  Synced  "); found {
			events = append(events, message)
		}
	}
	return events
}

// gateway is the name by which the page reaches the gateway.
func (p tutorial) gateway() string {
	return regexp.MustCompile(`-host app\.example\.com http://([a-z.-]+)/`).FindStringSubmatch(p.text)[1]
}

// TestTutorial does what the tutorial of a data plane says, but for the time between two checks, and sees the events that it shows.
func TestTutorial(tt *testing.T) {
	needsBed(tt)
	plane := planeUnderTest(tt)
	if plane == nil || !slices.Contains([]string{"contour", "istio", "skipper", "traefik"}, plane.name) {
		tt.Skip("run make e2e-contour, e2e-istio, e2e-skipper or e2e-traefik")
	}
	b, err := shared()
	if err != nil {
		tt.Fatal(err)
	}
	t := &team{T: tt, bed: b, ns: "test"}
	page := readTutorial(tt, plane.name)
	t.ownNamespace()
	t.operate("-mesh-provider", plane.provider, "-route-propagation-delay", "5s")
	t.expose(page.gateway(), plane.address)
	for _, file := range []string{"podinfo/deployment", "podinfo/hpa", "tester/deployment", "tester/service"} {
		manifest, err := os.ReadFile(filepath.Join(os.Getenv("ROOT"), "kustomize", file+".yaml"))
		t.must(err)
		t.put(strings.ReplaceAll(string(manifest), "ghcr.io/", ""))
	}
	t.available("podinfo")
	t.available("flagger-loadtester")
	for _, document := range documents(page.text, ".md") {
		t.put(strings.ReplaceAll(document, "interval: 30s", "interval: 10s"))
	}
	t.settled(v1beta1.CanaryPhaseInitialized)
	t.tells(t.events(), page.events("The Canary"))

	l := &loaded{team: t}
	l.roll(v1beta1.CanaryPhaseSucceeded, func() { t.ship(v2) }, nil)
	t.tells(t.events(), page.events("A new version"))

	before := len(t.events())
	t.keepAsking("http://"+page.gateway()+"/status/500", "app.example.com", nil)
	l.roll(v1beta1.CanaryPhaseFailed, t.restart, nil)
	t.tells(t.events()[before:], page.events("A bad version"))
}

// restart is kubectl rollout restart.
func (t *team) restart() {
	t.Helper()
	patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":%q}}}}}`, time.Now().Format(time.RFC3339))
	_, err := t.kube.AppsV1().Deployments(t.ns).Patch(t.Context(), "podinfo", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	t.must(err)
}

// expose has a name of a Service lead to an address, unless there is one already.
func (t *team) expose(service, address string) {
	t.Helper()
	name, namespace, _ := strings.Cut(service, ".")
	if _, err := t.kube.CoreV1().Services(namespace).Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.must(err)
		return
	}
	ip, port, err := net.SplitHostPort(address)
	t.must(err)
	_, err = t.kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		t.must(err)
	}
	t.put(fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: %[2]s}
spec: {ports: [{name: http, port: 80, targetPort: %[4]s}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s, namespace: %[2]s, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
ports: [{name: http, port: %[4]s}]
endpoints: [{addresses: [%[3]s]}]
`, name, namespace, ip, port))
}

// keepAsking sends ten requests a second to the end of the test, and takes any answer.
func (t *team) keepAsking(url, host string, header http.Header) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		due := time.NewTicker(100 * time.Millisecond)
		defer due.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-due.C:
				// Some versions fail, and that is what the Canary is to find out.
				_, _ = fetch(http.DefaultClient, url, host, header)
			}
		}
	}()
}
