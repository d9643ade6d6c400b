package prometheus

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/metrics/conformance"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key = a.sign(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// sign makes a certificate; the first signs itself.
func (a *authority) sign(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.Subject = big.NewInt(1), pkix.Name{CommonName: "test"}
	now := clock.RealClock{}.Now()
	template.NotBefore, template.NotAfter = now.Add(-time.Hour), now.Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func certificatePEM(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

func keyPEM(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// mutual starts a server whose certificate one authority signs, and that wants one of its clients from another.
func mutual(t *testing.T, ca, clients *authority) *httptest.Server {
	t.Helper()
	cert, key := ca.sign(t, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	pool := x509.NewCertPool()
	pool.AddCert(clients.cert)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, vector("7")) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: pool,
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func withSecret(address string, keys map[string][]byte) provider.Config {
	cfg := at(address)
	cfg.Spec.SecretRef, cfg.Credentials = &corev1.LocalObjectReference{Name: "creds"}, keys
	return cfg
}

// A changed Secret takes effect at the next query, also for connections that are open.
func TestCertificatesOfTheSecret(t *testing.T) {
	ca, clients, others := newAuthority(t), newAuthority(t), newAuthority(t)
	server := mutual(t, ca, clients)
	show := func(by *authority) (cert, key []byte) {
		c, k := by.sign(t, &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		return certificatePEM(c), keyPEM(t, k)
	}
	cert, key := show(clients)
	foreign, foreignKey := show(others)
	build := factory()
	for _, step := range []struct {
		name   string
		secret map[string][]byte
		skip   bool
		says   string
	}{
		{"nothing", map[string][]byte{"token": []byte("x")}, false, "certificate signed by unknown authority"},
		{"all", map[string][]byte{"ca.crt": certificatePEM(ca.cert), "tls.crt": cert, "tls.key": key}, false, ""},
		{"another authority", map[string][]byte{"ca.crt": certificatePEM(others.cert), "tls.crt": cert, "tls.key": key}, false, "certificate signed by unknown authority"},
		{"foreign certificate", map[string][]byte{"ca.crt": certificatePEM(ca.cert), "tls.crt": foreign, "tls.key": foreignKey}, false, "tls: "},
		{"no authority", map[string][]byte{"tls.crt": cert, "tls.key": key}, false, "certificate signed by unknown authority"},
		{"no authority, unverified", map[string][]byte{"tls.crt": cert, "tls.key": key}, true, ""},
		{"all again", map[string][]byte{"ca.crt": certificatePEM(ca.cert), "tls.crt": cert, "tls.key": key}, false, ""},
	} {
		cfg := withSecret(server.URL, step.secret)
		cfg.Spec.InsecureSkipVerify = step.skip
		p, err := build(cfg)
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		value, err := p.Query(t.Context(), "up")
		if step.says == "" && (err != nil || value != 7) || step.says != "" && (err == nil || !strings.Contains(err.Error(), step.says)) {
			t.Errorf("%s: got %v, %v; want an error with %q", step.name, value, err, step.says)
		}
	}
}

func TestHeadersOfTheSecret(t *testing.T) {
	server, requests := answering(t, 200, vector("1"))
	cfg := withSecret(server.URL, map[string][]byte{"headers": []byte("X-Scope-OrgID: team-a\n\n x-api-key:k-secret \n")})
	cfg.Spec.Headers = map[string][]string{"X-Plain": {"1"}}
	if _, err := client(t, cfg).Query(t.Context(), "up"); err != nil {
		t.Fatal(err)
	}
	h := requests()[0].Header
	if h.Get("X-Scope-OrgID") != "team-a" || h.Get("X-Api-Key") != "k-secret" || h.Get("X-Plain") != "1" || len(cfg.Spec.Headers) != 1 {
		t.Errorf("got %v, the template has %v", h, cfg.Spec.Headers)
	}
}

// What the Secret holds is in no error, whatever is wrong and whatever the server repeats.
func TestSecretsAreKept(t *testing.T) {
	const hidden = "hunter2"
	server, _ := answering(t, 403, "wrong: "+hidden)
	for name, secret := range map[string]map[string][]byte{
		"token":          {"token": []byte(hidden)},
		"password":       {"username": []byte("u"), "password": []byte(hidden + "\n")},
		"password alone": {"password": []byte(hidden)},
		"header":         {"headers": []byte("X-Key: " + hidden)},
		"broken header":  {"headers": []byte(hidden)},
		"authority":      {"ca.crt": []byte(hidden)},
		"certificate":    {"tls.crt": []byte(hidden), "tls.key": []byte(hidden)},
		"key alone":      {"tls.key": []byte(hidden)},
		"account":        {"serviceAccountKey": []byte(hidden)},
		"none of ours":   {"other": []byte(hidden)},
	} {
		p, err := factory()(withSecret(server.URL, secret))
		if err == nil {
			_, err = p.Query(t.Context(), "up")
		} else if !strings.HasPrefix(err.Error(), "secret creds has ") {
			t.Errorf("%s: %v does not name the Secret", name, err)
		}
		if err == nil || strings.Contains(err.Error(), hidden) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Amazon checks that what arrives is what was signed.
func TestSignature(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKID")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "aws-secret")
	t.Setenv("AWS_SESSION_TOKEN", "session")
	server, requests := answering(t, 200, vector("1"))
	c := &conformance.Clock{}
	cfg := at(server.URL + "/workspaces/ws-1")
	cfg.Spec.Region, cfg.Spec.Headers = "eu-central-1", map[string][]string{"Host": {"aps-workspaces.eu-central-1.amazonaws.com"}}
	p, err := New(outbound.NewTransports(c), c)(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Query(t.Context(), `sum(rate(x{code!~"5.*"}[1m])) + 1`); err != nil {
		t.Fatal(err)
	}
	got := requests()[0]
	again, err := http.NewRequestWithContext(t.Context(), got.Method, server.URL+got.URL.String(), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	again.Header.Set("X-Amz-Security-Token", "session")
	credentials := aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "aws-secret", SessionToken: "session"}
	signed := got.Header.Get("X-Amz-Date")
	at, err := time.Parse("20060102T150405Z", signed)
	if err != nil || !at.Equal(c.Now().UTC().Truncate(time.Second)) {
		t.Errorf("signed at %s, %v", signed, err)
	}
	if err := v4.NewSigner().SignHTTP(t.Context(), credentials, again, emptyBody, "aps", "eu-central-1", at); err != nil {
		t.Fatal(err)
	}
	_, want, _ := strings.Cut(again.Header.Get("Authorization"), "Credential=")
	if !strings.HasSuffix(got.Header.Get("Authorization"), want) || !strings.HasPrefix(want, "AKID/20261129/eu-central-1/aps/aws4_request") {
		t.Errorf("got %s\nwant %s", got.Header.Get("Authorization"), want)
	}
	if got.Host != strings.TrimPrefix(server.URL, "http://") {
		t.Errorf("signed for host %s", got.Host)
	}
}

func TestSignatureWithoutIdentity(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("HOME", t.TempDir())
	cfg := at("http://127.0.0.1:1")
	cfg.Spec.Region = "eu-central-1"
	_, err := client(t, cfg).Query(t.Context(), "up")
	if err == nil || !strings.Contains(err.Error(), "can't be asked: the operator has no identity of Amazon") {
		t.Errorf("got %v", err)
	}
	cfg.Spec.SecretRef, cfg.Credentials = &corev1.LocalObjectReference{Name: "creds"}, map[string][]byte{"token": []byte("x")}
	if _, err := factory()(cfg); err == nil || !strings.Contains(err.Error(), "provider.region") {
		t.Errorf("signature and token: %v", err)
	}
}

// Google's managed Prometheus is given a token of its own, and nobody else is.
func TestGoogle(t *testing.T) {
	tokens := conformance.Serve(t, conformance.Always(200, `{"access_token":"ya29.secret","token_type":"Bearer","expires_in":3600}`))
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	account, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "flagger@example", "token_uri": tokens.URL, "private_key": string(keyPEM(t, private)),
	})
	if err != nil {
		t.Fatal(err)
	}
	var authorization string
	google := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		authorization = r.Header.Get("Authorization")
		_, _ = io.WriteString(w, vector("1"))
	}))
	defer google.Close()
	host := strings.TrimPrefix(google.URL, "https://")
	for name, tc := range map[string]struct{ google, want string }{
		"Google":       {host, "Bearer ya29.secret"},
		"another host": {"monitoring.googleapis.com", ""},
	} {
		c := &conformance.Clock{}
		cfg := withSecret(google.URL+"/v1/projects/p/location/global/prometheus", map[string][]byte{"serviceAccountKey": account, "ca.crt": certificatePEM(google.Certificate())})
		p, err := newFactory(outbound.NewTransports(c), c, tc.google)(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Query(t.Context(), "up"); err != nil || authorization != tc.want {
			t.Errorf("%s: got %q, %v", name, authorization, err)
		}
	}
}
