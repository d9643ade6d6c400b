package hook

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"

	"flagger.app/flagger/pkg/outbound"
)

// maxRedirects is the limit of the standard client.
const maxRedirects = 10

// client has no timeout of its own, the context of each attempt has one.
func client(skipVerify bool) *http.Client {
	return &http.Client{CheckRedirect: sameCall, Transport: outbound.NewTransport(skipVerify)}
}

// sameCall follows a redirect only if it repeats the POST with its payload on the host that the user named. Otherwise the
// redirect itself is the answer.
func sameCall(next *http.Request, via []*http.Request) error {
	first := via[0]
	if next.Method != first.Method || next.URL.Host != first.URL.Host || next.URL.Scheme != first.URL.Scheme || len(via) >= maxRedirects {
		return http.ErrUseLastResponse
	}
	return nil
}

// permanent tells errors that another attempt can't mend.
func permanent(err error) bool {
	var (
		unknownAuthority x509.UnknownAuthorityError
		hostname         x509.HostnameError
		invalid          x509.CertificateInvalidError
		verification     *tls.CertificateVerificationError
	)
	return errors.As(err, &unknownAuthority) || errors.As(err, &hostname) || errors.As(err, &invalid) ||
		errors.As(err, &verification) || errors.Is(err, outbound.ErrLinkLocal)
}
