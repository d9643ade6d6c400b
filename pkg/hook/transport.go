package hook

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// maxRedirects is the limit of the standard client.
const maxRedirects = 10

// errForbidden is wrapped by the error for an address that webhooks may not reach.
var errForbidden = errors.New("webhooks may not call link-local addresses")

// client has no timeout of its own, the context of each attempt has one.
func client(skipVerify bool) *http.Client {
	return &http.Client{
		CheckRedirect: sameCall,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment,
			DialContext: (&net.Dialer{
				Timeout:   10 * time.Second,
				KeepAlive: 30 * time.Second,
				Control:   refuseLinkLocal,
			}).DialContext,
			ForceAttemptHTTP2:   true,
			TLSHandshakeTimeout: 10 * time.Second,
			MaxIdleConns:        256,
			MaxIdleConnsPerHost: 16,
			IdleConnTimeout:     90 * time.Second,
			//nolint:gosec // disableTLS of the webhook is the user's decision.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: skipVerify},
		},
	}
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

// ec2Metadata is the IPv6 address of the AWS metadata service, which is not link-local.
var ec2Metadata = netip.MustParseAddr("fd00:ec2::254")

// refuseLinkLocal looks at the address after name resolution, so no name can lead around it.
func refuseLinkLocal(_, address string, _ syscall.RawConn) error {
	addrPort, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %s: %w", address, err)
	}
	ip := addrPort.Addr().Unmap().WithZone("")
	if ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip == ec2Metadata {
		return fmt.Errorf("%s: %w", ip, errForbidden)
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
		errors.As(err, &verification) || errors.Is(err, errForbidden)
}
