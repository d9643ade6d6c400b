package outbound

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
)

// TLS is what a server is verified by, and what it is shown.
type TLS struct {
	authorities  *x509.CertPool
	certificates []tls.Certificate
	id           [sha256.Size]byte
}

// NewTLS reads PEM: the authorities that may sign the certificate of the server, instead of those of the system, and a certificate to
// show with its key. Without any of them it is nil. Errors don't quote what they are about.
func NewTLS(ca, certificate, key []byte) (*TLS, error) {
	if len(ca)+len(certificate)+len(key) == 0 {
		return nil, nil
	}
	t := &TLS{}
	if len(ca) > 0 {
		if t.authorities = x509.NewCertPool(); !t.authorities.AppendCertsFromPEM(ca) {
			return nil, errors.New("the bundle of authorities holds no certificate in PEM")
		}
	}
	if len(certificate)+len(key) > 0 {
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			return nil, errors.New("the certificate of the client and its key are no pair in PEM")
		}
		t.certificates = []tls.Certificate{pair}
	}
	sum := sha256.New()
	for _, part := range [][]byte{ca, certificate, key} {
		own := sha256.Sum256(part)
		sum.Write(own[:])
	}
	sum.Sum(t.id[:0])
	return t, nil
}
