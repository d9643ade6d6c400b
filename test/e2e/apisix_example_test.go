package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// metricsServer answers queries as a Prometheus that scrapes APISIX does.
type metricsServer struct {
	mu sync.Mutex
	// rates are what it says about the success rate, one after the other; an empty one is no answer. The last one stays.
	rates []string
}

func (m *metricsServer) says(rates ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rates = rates
}

func (m *metricsServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value := "1"
	switch query := r.FormValue("query"); {
	case strings.Contains(query, `apisix_http_status{route=~"test_podinfo-podinfo-canary_.+"`):
		value = m.rates[0]
		if len(m.rates) > 1 {
			m.rates = m.rates[1:]
		}
	case strings.Contains(query, "apisix_http_latency"):
		value = "20"
	}
	result := ""
	if value != "" {
		result = fmt.Sprintf(`{"metric":{},"value":[1600000000,%q]}`, value)
	}
	_, _ = fmt.Fprintf(w, `{"status":"success","data":{"resultType":"vector","result":[%s]}}`, result)
}

// loadTester is a Service of this name that leads to an address of the node.
const loadTester = `
apiVersion: v1
kind: Service
metadata: {name: flagger-loadtester}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: flagger-loadtester, labels: {kubernetes.io/service-name: flagger-loadtester}}
addressType: IPv4
endpoints: [{addresses: [10.244.255.1], conditions: {ready: true}}]
ports: [{name: http, port: PORT, protocol: TCP}]
`

// The published example runs as it is, behind the real ingress controller, and prints what users know from it.
func TestApisixExample(tt *testing.T) {
	needsApisix(tt)
	manifest, printed := example(tt, "apisix-v1beta1.yaml"), example(tt, "events.txt")
	api, err := apisix()
	if err != nil {
		tt.Fatal(err)
	}
	b, err := shared()
	if err != nil {
		tt.Fatal(err)
	}
	t := &team{T: tt, bed: b, ns: "test"}
	t.inNamespace()
	g := &gated{loaded: &loaded{team: t}, api: api}
	g.controlled()

	listener, err := net.Listen("tcp", "10.244.255.1:0")
	t.must(err)
	hooks := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}}
	hooks.Start()
	tt.Cleanup(hooks.Close)
	t.put(strings.ReplaceAll(loadTester, "PORT", fmt.Sprint(listener.Addr().(*net.TCPAddr).Port)))
	metrics := &metricsServer{rates: []string{"", "100"}}
	server := httptest.NewServer(metrics)
	tt.Cleanup(server.Close)

	deployment, _, _ := strings.Cut(podinfo(1), "\n---\n")
	t.put(deployment)
	t.put(manifest)
	t.operate("-metrics-server", server.URL)
	t.settled(v1beta1.CanaryPhaseInitialized)
	all := &visitor{host: "app.example.com", path: "/api/info"}
	g.gets(all, sides(0))
	tt.Cleanup(api.visit(all))

	t.ship(v2)
	t.settled(v1beta1.CanaryPhaseSucceeded)
	g.gets(all, sides(0))
	promotion := t.events()
	t.tells(promotion, section(printed, "APISIX, promotion"))
	if n := count(promotion, "Halt advancement no values found for apisix metric request-success-rate probably podinfo.test is not receiving traffic"); n != 1 {
		t.Errorf("%d times no values, want 1", n)
	}

	metrics.says("0", "26.76")
	t.ship(v3)
	t.settled(v1beta1.CanaryPhaseFailed)
	g.gets(all, sides(0))
	rollback := t.events()[len(promotion):]
	t.tells(rollback, slices.DeleteFunc(section(printed, "APISIX, rollback"), func(m string) bool { return strings.HasPrefix(m, "(") }))
	if n, of := count(rollback, "advancement success rate 26.76% < 99%"), count(rollback, "Halt podinfo.test advancement success rate"); n != 9 || of != 10 {
		t.Errorf("%d halts, %d of them at 26.76 %%, want 10 and 9", of, n)
	}
	api.mu.Lock()
	defer api.mu.Unlock()
	if got, want := fmt.Sprint(all.of("podinfo-canary")), "[0 10 20 30 40 50 0 10 0]"; got != want {
		t.Errorf("the gateway was told to send %s of 100 requests to the canary, want %s", got, want)
	}
	if len(all.faults) > 0 {
		t.Errorf("requests fail:\n%s", strings.Join(all.faults, "\n"))
	}
}

// inNamespace makes the namespace of the team, for as long as the test takes.
func (t *team) inNamespace() {
	t.Helper()
	namespaces := t.kube.CoreV1().Namespaces()
	_, err := namespaces.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: t.ns}}, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		t.must(err)
	}
}
