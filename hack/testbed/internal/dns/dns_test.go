package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
)

func ptr[T any](v T) *T { return &v }

func object(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "test", Name: name} }

// testSource is a cluster with a Service of each kind.
func testSource(t *testing.T, extra ...discoveryv1.Endpoint) source {
	t.Helper()
	endpoints := append([]discoveryv1.Endpoint{
		{Addresses: []string{"10.244.0.2"}, Hostname: ptr("web-0")},
		{Addresses: []string{"10.244.0.3"}},
		{Addresses: []string{"10.244.0.4"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr(false)}},
	}, extra...)
	client := fake.NewClientset(
		&corev1.Service{ObjectMeta: object("app"), Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.7", Ports: []corev1.ServicePort{
			{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP},
		}}},
		&corev1.Service{ObjectMeta: object("web"), Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone}},
		&corev1.Service{ObjectMeta: object("outside"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com"}},
		&corev1.Service{ObjectMeta: object("alias"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "app.test.svc.cluster.local"}},
		&corev1.Service{ObjectMeta: object("loop"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "loop.test.svc.cluster.local"}},
		&discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "test", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
			AddressType: discoveryv1.AddressTypeIPv4, Endpoints: endpoints,
			Ports: []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr[int32](8080), Protocol: ptr(corev1.ProtocolTCP)}},
		},
	)
	factory := informers.NewSharedInformerFactory(client, 0)
	src, err := newClusterSource(factory)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); factory.Shutdown() })
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	return src
}

func render(records []dns.RR) []string {
	var out []string
	for _, rr := range records {
		switch rr := rr.(type) {
		case *dns.A:
			out = append(out, "A "+rr.A.String())
		case *dns.CNAME:
			out = append(out, "CNAME "+rr.Target)
		case *dns.SRV:
			out = append(out, fmt.Sprintf("SRV %d %s", rr.Port, rr.Target))
		}
	}
	return out
}

func TestLookup(t *testing.T) {
	src := testSource(t)
	for _, row := range []struct {
		name  string
		qtype uint16
		rcode int
		want  []string
	}{
		{"app.test.svc.cluster.local", dns.TypeA, dns.RcodeSuccess, []string{"A 10.96.0.7"}},
		{"App.Test.SVC.cluster.local.", dns.TypeA, dns.RcodeSuccess, []string{"A 10.96.0.7"}},
		{"app.test.svc.cluster.local", dns.TypeAAAA, dns.RcodeSuccess, nil},
		{"none.test.svc.cluster.local", dns.TypeA, dns.RcodeNameError, nil},
		{"web.test.svc.cluster.local", dns.TypeA, dns.RcodeSuccess, []string{"A 10.244.0.2", "A 10.244.0.3"}},
		{"web-0.web.test.svc.cluster.local", dns.TypeA, dns.RcodeSuccess, []string{"A 10.244.0.2"}},
		{"10-244-0-3.web.test.svc.cluster.local", dns.TypeA, dns.RcodeSuccess, []string{"A 10.244.0.3"}},
		{"web-1.web.test.svc.cluster.local", dns.TypeA, dns.RcodeNameError, nil},
		{"_http._tcp.app.test.svc.cluster.local", dns.TypeSRV, dns.RcodeSuccess, []string{"SRV 80 app.test.svc.cluster.local."}},
		{"_http._tcp.web.test.svc.cluster.local", dns.TypeSRV, dns.RcodeSuccess, []string{
			"SRV 8080 web-0.web.test.svc.cluster.local.", "SRV 8080 10-244-0-3.web.test.svc.cluster.local.",
		}},
		{"_http._udp.app.test.svc.cluster.local", dns.TypeSRV, dns.RcodeNameError, nil},
		{"_tcp.app.test.svc.cluster.local", dns.TypeA, dns.RcodeSuccess, nil},
		{"outside.test.svc.cluster.local", dns.TypeA, dns.RcodeSuccess, []string{"CNAME example.com."}},
		{"alias.test.svc.cluster.local", dns.TypeA, dns.RcodeSuccess, []string{"CNAME app.test.svc.cluster.local.", "A 10.96.0.7"}},
		{"loop.test.svc.cluster.local", dns.TypeA, dns.RcodeSuccess, []string{"CNAME loop.test.svc.cluster.local."}},
		{"10-244-0-9.test.pod.cluster.local", dns.TypeA, dns.RcodeSuccess, []string{"A 10.244.0.9"}},
		{"10-244-0.test.pod.cluster.local", dns.TypeA, dns.RcodeNameError, nil},
		{"test.svc.cluster.local", dns.TypeA, dns.RcodeSuccess, nil},
		{"other.svc.cluster.local", dns.TypeA, dns.RcodeNameError, nil},
		{"cluster.local", dns.TypeA, dns.RcodeSuccess, nil},
		{"app.test.svc.cluster.local.test.svc.cluster.local", dns.TypeA, dns.RcodeNameError, nil},
		{"xcluster.local", dns.TypeA, dns.RcodeNameError, nil},
		{"example.com", dns.TypeA, dns.RcodeNameError, nil},
	} {
		got := lookup(src, row.name, row.qtype)
		if got.rcode != row.rcode {
			t.Errorf("%s %s: %s, want %s", row.name, dns.TypeToString[row.qtype], dns.RcodeToString[got.rcode], dns.RcodeToString[row.rcode])
		}
		if diff := cmp.Diff(row.want, render(got.records)); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", row.name, dns.TypeToString[row.qtype], diff)
		}
	}
}

// serveTest serves the cluster on a port of loopback and gives its address.
func serveTest(t *testing.T, src source) string {
	t.Helper()
	sockets, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := sockets.listener.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- sockets.serve(ctx, handler{src: src, log: slog.New(slog.DiscardHandler)}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
	return address
}

func TestServerThroughTheResolver(t *testing.T) {
	address := serveTest(t, testSource(t))
	for _, network := range []string{"udp", "tcp"} {
		resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}}
		addresses, err := resolver.LookupHost(t.Context(), "web.test.svc.cluster.local")
		slices.Sort(addresses)
		if err != nil || !slices.Equal(addresses, []string{"10.244.0.2", "10.244.0.3"}) {
			t.Errorf("%s: %v, %v", network, addresses, err)
		}
		_, err = resolver.LookupHost(t.Context(), "none.test.svc.cluster.local.")
		var failure *net.DNSError
		if !errors.As(err, &failure) || !failure.IsNotFound {
			t.Errorf("%s: a name that does not exist gives %v", network, err)
		}
	}
}

func TestServerTruncatesLongAnswers(t *testing.T) {
	var many []discoveryv1.Endpoint
	for i := range 100 {
		many = append(many, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.1.%d", i)}})
	}
	address := serveTest(t, testSource(t, many...))
	question := new(dns.Msg).SetQuestion("web.test.svc.cluster.local.", dns.TypeA)
	for network, want := range map[string]bool{"udp": true, "tcp": false} {
		answer, _, err := (&dns.Client{Net: network, Timeout: 5 * time.Minute}).ExchangeContext(t.Context(), question, address)
		if err != nil || answer.Truncated != want || network == "tcp" && len(answer.Answer) != 102 {
			t.Errorf("%s: truncated %v with %d records, %v", network, answer.Truncated, len(answer.Answer), err)
		}
	}
	absent := new(dns.Msg).SetQuestion("app.test.svc.cluster.local.", dns.TypeAAAA)
	answer, _, err := (&dns.Client{Timeout: 5 * time.Minute}).ExchangeContext(t.Context(), absent, address)
	if err != nil || answer.Rcode != dns.RcodeSuccess || len(answer.Ns) != 1 {
		t.Errorf("absent type: %v, %v", answer, err)
	}
}
