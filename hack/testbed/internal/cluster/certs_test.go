package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/clock"
)

func newTestCluster(t *testing.T) *Cluster {
	t.Helper()
	c := &Cluster{cfg: Config{
		Dir: t.TempDir(), NodeIP: "10.244.255.1", ServiceCIDR: "10.96.0.0/16", PodCIDR: "10.244.0.0/16",
		Clock: clock.RealClock{}, Log: slog.New(slog.DiscardHandler),
	}}
	if err := c.writeFiles(); err != nil {
		t.Fatal(err)
	}
	return c
}

// A client made of a kubeconfig and a server made of the serving certificate
// trust each other under every address the API server is reached by.
func TestClientsAndServerTrustEachOther(t *testing.T) {
	c := newTestCluster(t)
	pair, err := tls.LoadX509KeyPair(c.path("apiserver.crt"), c.path("apiserver.key"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(c.ca.cert)
	path, err := c.Kubeconfig("someone")
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	client, err := tls.X509KeyPair(config.CertData, config.KeyData)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"10.96.0.1", "10.244.255.1", "127.0.0.1", "kubernetes.default.svc", "localhost"} {
		near, far := net.Pipe()
		server := tls.Server(far, &tls.Config{
			Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		})
		served := make(chan error, 1)
		go func() { served <- server.Handshake() }()
		conn := tls.Client(near, &tls.Config{Certificates: []tls.Certificate{client}, RootCAs: pool, ServerName: name})
		if err := conn.Handshake(); err != nil {
			t.Errorf("client at %s: %v", name, err)
			_ = near.Close()
		}
		// TLS 1.3 tells the client of a refusal only with the first read.
		go func() { _, _ = io.Copy(io.Discard, near) }()
		if err := <-served; err != nil {
			t.Errorf("server at %s: %v", name, err)
			continue
		}
		subject := server.ConnectionState().PeerCertificates[0].Subject
		if subject.CommonName != "someone" || subject.Organization[0] != "system:masters" {
			t.Errorf("the server takes the client for %v", subject)
		}
		_ = far.Close()
	}
}

func TestFilesAreForTheirOwnerOnly(t *testing.T) {
	c := newTestCluster(t)
	files, err := filepath.Glob(c.path("*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("files %v, %v", files, err)
	}
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v, %v", file, info.Mode(), err)
		}
	}
}

func TestServiceAccountKeysBelongTogether(t *testing.T) {
	private, public, err := signingKey()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(private)
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	block, _ = pem.Decode(public)
	other, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil || !key.PublicKey.Equal(other) {
		t.Errorf("public key does not match, %v", err)
	}
}

func TestCertificatesHoldNow(t *testing.T) {
	c := newTestCluster(t)
	now := clock.RealClock{}.Now()
	if now.Before(c.ca.cert.NotBefore) || c.ca.cert.NotAfter.Sub(now) < 24*time.Hour {
		t.Errorf("valid from %s to %s", c.ca.cert.NotBefore, c.ca.cert.NotAfter)
	}
}

func TestServiceIP(t *testing.T) {
	if ip, err := serviceIP("10.96.0.0/16"); err != nil || ip.String() != "10.96.0.1" {
		t.Errorf("got %s, %v; want 10.96.0.1", ip, err)
	}
	for _, bad := range []string{"", "10.96.0.1", "fd00::/112"} {
		if ip, err := serviceIP(bad); err == nil {
			t.Errorf("serviceIP(%q) = %s, want an error", bad, ip)
		}
	}
}
