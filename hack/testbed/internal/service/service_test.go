package service

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/clock"

	"flagger.app/flagger/hack/testbed/internal/node/sandbox/nstest"
	"github.com/vishvananda/netlink"
)

// The tests serve the real range, in a network namespace of their own.
func TestMain(m *testing.M) {
	os.Exit(nstest.Main(func() int {
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err == nil {
			_, services, _ := net.ParseCIDR("10.96.0.0/16")
			err = netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: services, Type: 2, Table: 255, Scope: netlink.SCOPE_HOST})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "set up loopback:", err)
			return 1
		}
		return m.Run()
	}))
}

func ptr[T any](v T) *T { return &v }

func slice(port int32, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "test", Name: "app-1", Labels: map[string]string{discoveryv1.LabelServiceName: "app"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(port), Protocol: ptr(corev1.ProtocolTCP)}},
		Endpoints:   endpoints,
	}
}

func endpoint(ip string, ready, serving, terminating bool) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{Addresses: []string{ip}, Conditions: discoveryv1.EndpointConditions{
		Ready: &ready, Serving: &serving, Terminating: &terminating,
	}}
}

func TestBackends(t *testing.T) {
	ready := endpoint("10.244.0.2", true, true, false)
	unready := endpoint("10.244.0.3", false, false, false)
	ending := endpoint("10.244.0.4", false, true, true)
	dead := endpoint("10.244.0.5", false, false, true)
	for _, row := range []struct {
		name string
		port string
		list []*discoveryv1.EndpointSlice
		want []string
	}{
		{"ready ones only", "http", []*discoveryv1.EndpointSlice{slice(80, unready, ready, ending)}, []string{"10.244.0.2:80"}},
		{"the same in two slices", "http", []*discoveryv1.EndpointSlice{slice(80, ready), slice(80, ready)}, []string{"10.244.0.2:80"}},
		{"those that end if none is ready", "http", []*discoveryv1.EndpointSlice{slice(80, unready, dead, ending)}, []string{"10.244.0.4:80"}},
		{"none", "http", []*discoveryv1.EndpointSlice{slice(80, unready, dead)}, nil},
		{"another port", "grpc", []*discoveryv1.EndpointSlice{slice(80, ready)}, nil},
	} {
		if diff := cmp.Diff(row.want, backends(row.port, row.list)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.name, diff)
		}
	}
}

func TestServicePortsLeavesOutWhatHasNoClusterIP(t *testing.T) {
	for _, spec := range []corev1.ServiceSpec{
		{ClusterIP: corev1.ClusterIPNone}, {}, {Type: corev1.ServiceTypeExternalName, ExternalName: "example.com"},
		{ClusterIP: "10.96.0.9"},
	} {
		spec.Ports = []corev1.ServicePort{{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}}
		if got := servicePorts(&corev1.Service{Spec: spec}, nil); len(got) > 0 {
			t.Errorf("%+v is served: %v", spec, got)
		}
	}
}

// backend answers each line with its name and the line, and says goodbye when
// the client has no more to say.
func backend(t *testing.T, ip, name string) {
	t.Helper()
	l, err := net.Listen("tcp4", ip+":9898")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buf := make([]byte, 100)
				for {
					n, err := conn.Read(buf)
					if err != nil {
						_, _ = io.WriteString(conn, "bye from "+name)
						return
					}
					_, _ = io.WriteString(conn, name+" "+string(buf[:n]))
				}
			}()
		}
	}()
}

func say(t *testing.T, conn net.Conn, text string) string {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func testForwarder(t *testing.T, key string, target servicePort) *forwarder {
	t.Helper()
	at := netip.MustParseAddrPort(key)
	f, err := listen(portKey{at.Addr(), at.Port()}, target, clock.RealClock{}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.close)
	return f
}

func TestForwarderKeepsEstablishedConnections(t *testing.T) {
	backend(t, "10.96.200.1", "old")
	backend(t, "10.96.200.2", "new")
	f := testForwarder(t, "10.96.0.20:80", servicePort{backends: []string{"10.96.200.1:9898"}})
	established := dial(t, "10.96.0.20:80")
	if got := say(t, established, "hello"); got != "old hello" {
		t.Fatalf("answer %q", got)
	}
	f.setTarget(servicePort{backends: []string{"10.96.200.2:9898"}})
	if got := say(t, dial(t, "10.96.0.20:80"), "hello"); got != "new hello" {
		t.Errorf("a new connection went to %q", got)
	}
	f.close()
	if got := say(t, established, "again"); got != "old again" {
		t.Errorf("the established connection got %q", got)
	}
	if err := established.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(established); err != nil || string(rest) != "bye from old" {
		t.Errorf("after the half-close: %q, %v", rest, err)
	}
}

func TestForwarderTakesTurns(t *testing.T) {
	backend(t, "10.96.201.1", "a")
	backend(t, "10.96.201.2", "b")
	both := servicePort{backends: []string{"10.96.201.1:9898", "10.96.201.2:9898"}}
	count := func(address string) map[string]int {
		out := map[string]int{}
		for range 10 {
			conn := dial(t, address)
			name, _, _ := strings.Cut(say(t, conn, "x"), " ")
			out[name]++
		}
		return out
	}
	testForwarder(t, "10.96.0.21:80", both)
	if diff := cmp.Diff(map[string]int{"a": 5, "b": 5}, count("10.96.0.21:80")); diff != "" {
		t.Errorf("connections (-want +got):\n%s", diff)
	}
	both.affinity = 60
	testForwarder(t, "10.96.0.22:80", both)
	if got := count("10.96.0.22:80"); len(got) != 1 {
		t.Errorf("a client with affinity was sent to %v", got)
	}
}

func TestForwarderResetsWithoutEndpoint(t *testing.T) {
	testForwarder(t, "10.96.0.23:80", servicePort{})
	testForwarder(t, "10.96.0.24:80", servicePort{backends: []string{"10.96.202.1:9898"}})
	for _, address := range []string{"10.96.0.23:80", "10.96.0.24:80"} {
		conn, err := net.Dial("tcp4", address)
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		if err == nil || !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: error %v, want a reset connection", address, err)
		}
	}
}

func service(name, ip string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "test", Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}},
	}
}

// await calls the Service until the answer is as wanted.
func await(t *testing.T, address, want string) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	for time.Now().Before(deadline) {
		conn, err := net.Dial("tcp4", address)
		if err == nil {
			_, _ = io.WriteString(conn, "x")
			buf := make([]byte, 100)
			n, _ := conn.Read(buf)
			_ = conn.Close()
			if string(buf[:n]) == want {
				return
			}
		}
	}
	t.Fatalf("%s never answered %q", address, want)
}

func runProxy(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- Run(ctx, informers.NewSharedInformerFactory(client, 0), quiet()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
}

func TestClusterIPIsReused(t *testing.T) {
	backend(t, "10.96.203.1", "first")
	backend(t, "10.96.203.2", "second")
	client := fake.NewClientset(service("app", "10.96.0.30"), slice(9898, endpoint("10.96.203.1", true, true, false)))
	runProxy(t, client)
	await(t, "10.96.0.30:80", "first x")
	ctx := t.Context()
	next := slice(9898, endpoint("10.96.203.2", true, true, false))
	next.Name, next.Labels[discoveryv1.LabelServiceName] = "app2-1", "app2"
	if _, err := client.DiscoveryV1().EndpointSlices("test").Create(ctx, next, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := client.CoreV1().Services("test").Delete(ctx, "app", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Services("test").Create(ctx, service("app2", "10.96.0.30"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "10.96.0.30:80", "second x")
}

func TestOccupiedPortIsTriedAgain(t *testing.T) {
	backend(t, "10.96.204.1", "app")
	occupant, err := net.Listen("tcp4", "10.96.0.31:80")
	if err != nil {
		t.Fatal(err)
	}
	client := fake.NewClientset(service("app", "10.96.0.31"), service("other", "10.96.0.32"), slice(9898, endpoint("10.96.204.1", true, true, false)))
	runProxy(t, client)
	// Once the other one is served, the first was tried in vain.
	for {
		conn, err := net.Dial("tcp4", "10.96.0.32:80")
		if err == nil {
			_ = conn.Close()
			break
		}
	}
	_ = occupant.Close()
	await(t, "10.96.0.31:80", "app x")
}
