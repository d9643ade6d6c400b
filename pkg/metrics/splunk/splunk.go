// Package splunk asks Splunk Observability for the last value that a program in SignalFlow computes.
package splunk

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/gorilla/websocket"
	"github.com/signalfx/signalflow-client-go/v2/signalflow"
	"github.com/signalfx/signalfx-go/idtool"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/metrics/httpapi"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

// Type is the name of this back-end in spec.provider.type.
const Type = "splunk"

// maxMessage is the most of one message that is read, in bytes.
const maxMessage = 1 << 20

// Client is a provider.Provider for one organization.
type Client struct {
	http   *httpapi.Client
	stream string
	token  string
	window provider.Window
	// patient asks a server again that is busy.
	patient func(http.RoundTripper) http.RoundTripper
}

var _ provider.Provider = (*Client)(nil)

// New returns the Factory. The address is that of the API of a realm, such as https://api.us1.signalfx.com, and the Secret holds
// sf_token_key, an access token.
func New(transports *outbound.Transports, clock clock.PassiveClock) provider.Factory {
	return func(cfg provider.Config) (provider.Provider, error) {
		window, err := cfg.Window(clock)
		if err != nil {
			return nil, err
		}
		keys, err := cfg.Keys("sf_token_key")
		if err != nil {
			return nil, err
		}
		client, err := httpapi.Build(transports, cfg, httpapi.Options{
			Name:      "Splunk Observability",
			Example:   "https://api.us1.signalfx.com",
			Authorize: httpapi.Header("X-SF-Token", keys[0]),
			Secrets:   keys,
		})
		if err != nil {
			return nil, err
		}
		return &Client{http: client, stream: streamOf(client.Address), token: keys[0], window: window, patient: transports.Around}, nil
	}
}

// streamOf is where programs run: the same realm has another host for that.
func streamOf(address *url.URL) string {
	text := strings.Replace(address.JoinPath("/v2/signalflow").String(), "http", "ws", 1)
	return strings.Replace(text, "api", "stream", 1)
}

// Query runs a program over the last ten intervals of the metric. It must publish one time series, whose last value is returned.
func (c *Client) Query(ctx context.Context, query string) (float64, error) {
	from, now := c.window.Now()
	conn, err := c.dial(ctx)
	if err != nil {
		return 0, err
	}
	// Reading and writing know nothing of the context.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() { stop(); _ = conn.Close() }()
	r := &run{client: c, conn: conn, channel: "flagger", series: map[idtool.ID]bool{}, err: provider.ErrNoValues}
	err = r.execute(&signalflow.ExecuteRequest{
		Program: query, Channel: r.channel, Start: from, Stop: now, Immediate: true,
	})
	switch {
	case err == nil:
		return r.value, r.err
	case ctx.Err() != nil:
		return 0, c.http.Explain(ctx, ctx.Err())
	default:
		return 0, err
	}
}

// dial opens the connection that programs run by. The client of the service would do it, and run the program. But a program with a
// mistake leaves a lock of that client taken for ever, and its goroutines with it.
func (c *Client) dial(ctx context.Context) (*websocket.Conn, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.stream+"/connect", http.NoBody)
	if err != nil {
		return nil, c.http.Failed(err)
	}
	h := &handshake{}
	resp, err := c.patient(h).RoundTrip(request)
	if resp != nil {
		defer func() { _ = resp.Body.Close() }()
	}
	if resp != nil && resp.StatusCode >= http.StatusBadRequest {
		body, _ := io.ReadAll(resp.Body)
		return nil, c.http.Refused(resp.StatusCode, string(body))
	}
	if err == nil {
		err = h.err
	}
	if err != nil {
		if _, limited := ctx.Deadline(); limited && errors.Is(err, os.ErrDeadlineExceeded) {
			// The connection has the deadline of the context, and may know a moment earlier that it is over.
			<-ctx.Done()
		}
		return nil, c.http.Explain(ctx, &url.Error{Op: "connect", URL: c.stream, Err: err})
	}
	h.conn.SetReadLimit(maxMessage)
	return h.conn, nil
}

// handshake is the request that a connection begins with: it can be answered as any other, by a server that is busy for one.
type handshake struct {
	conn *websocket.Conn
	err  error
}

// RoundTrip implements http.RoundTripper. An answer is none of its errors.
func (h *handshake) RoundTrip(request *http.Request) (*http.Response, error) {
	dialer := websocket.Dialer{Proxy: http.ProxyFromEnvironment, NetDialContext: outbound.Dialer().DialContext}
	var resp *http.Response
	h.conn, resp, h.err = dialer.DialContext(request.Context(), request.URL.String(), nil)
	if resp == nil {
		return nil, h.err
	}
	return resp, nil
}

// Online lists one metric.
func (c *Client) Online(ctx context.Context) error {
	return c.http.Get(ctx, "/v2/metric", url.Values{"limit": {"1"}}, &struct{}{})
}
