package splunk

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"bytes"
	"encoding/binary"
	"encoding/json"

	"github.com/gorilla/websocket"
	"github.com/signalfx/signalflow-client-go/v2/signalflow/messages"
	"github.com/signalfx/signalfx-go/idtool"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/metrics/conformance"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

const program = "data('errors', filter=filter('service', 'podinfo')).sum().publish()"

func backend() *conformance.Backend {
	return &conformance.Backend{
		Type: Type, Name: "Splunk Observability", Query: program,
		New:         func(t *outbound.Transports, c clock.Clock) provider.Factory { return New(t, c) },
		Credentials: map[string]string{"sf_token_key": "sf-secret"},
	}
}

func TestLinkLocalAddressesAreRefused(t *testing.T) { backend().LinkLocal(t) }

// point is a value of a time series: a float64, an int64, or nil.
type point struct {
	series int64
	value  any
}

// dataMessage is what the service sends for one moment, by
// https://dev.splunk.com/observability/docs/signalflow/messages/stream_messages_specification.
func dataMessage(t *testing.T, channel string, points ...point) []byte {
	t.Helper()
	w := &bytes.Buffer{}
	write := func(v any) {
		if err := binary.Write(w, binary.BigEndian, v); err != nil {
			t.Error(err)
		}
	}
	header := messages.BinaryMessageHeader{Version: 1, MessageType: 5}
	copy(header.Channel[:], channel)
	write(&header)
	write(&messages.DataMessageHeader{TimestampMillis: 1, ElementCount: uint32(len(points))})
	for _, p := range points {
		payload := messages.DataPayload{TSID: idtool.ID(p.series)}
		switch v := p.value.(type) {
		case float64:
			payload.Type = messages.ValTypeDouble
			binary.BigEndian.PutUint64(payload.Val[:], math.Float64bits(v))
		case int64:
			payload.Type = messages.ValTypeLong
			binary.BigEndian.PutUint64(payload.Val[:], uint64(v))
		}
		write(&payload)
	}
	return w.Bytes()
}

// session is a conversation with the operator after its token was accepted and its program received.
type session struct {
	t       *testing.T
	conn    *websocket.Conn
	channel string
}

func (s *session) text(format string, args ...any) {
	_ = s.conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, format, args...))
}

func (s *session) data(points ...point) {
	_ = s.conn.WriteMessage(websocket.BinaryMessage, dataMessage(s.t, s.channel, points...))
}

func (s *session) end() {
	s.text(`{"type":"control-message","channel":%q,"event":"END_OF_CHANNEL"}`, s.channel)
	// Until the other side leaves.
	_, _, _ = s.conn.ReadMessage()
}

// signalFlow serves programs.
func signalFlow(t *testing.T, play func(*session, map[string]any)) *conformance.Server {
	return conformance.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		conn, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		var auth, execute map[string]any
		if conn.ReadJSON(&auth) != nil || auth["token"] != "sf-secret" {
			return
		}
		s := &session{t: t, conn: conn}
		s.text(`{"type":"authenticated"}`)
		if conn.ReadJSON(&execute) != nil {
			return
		}
		s.channel, _ = execute["channel"].(string)
		s.text(`{"type":"control-message","channel":%q,"event":"STREAM_START"}`, s.channel)
		play(s, execute)
	})
}

func TestQuery(t *testing.T) {
	for name, tc := range map[string]struct {
		play func(*session)
		want conformance.Answer
	}{
		"a value":        {func(s *session) { s.data(point{1, 1.0}); s.data(point{1, 98.5}); s.end() }, conformance.Answer{Value: 98.5}},
		"whole number":   {func(s *session) { s.data(point{1, int64(7)}); s.end() }, conformance.Answer{Value: 7}},
		"null at last":   {func(s *session) { s.data(point{1, 5.0}); s.data(point{1, nil}); s.end() }, conformance.Answer{Value: 5}},
		"null":           {func(s *session) { s.data(point{1, nil}); s.end() }, conformance.Answer{Is: provider.ErrNoValues}},
		"nothing":        {func(s *session) { s.end() }, conformance.Answer{Is: provider.ErrNoValues}},
		"no points":      {func(s *session) { s.data(); s.end() }, conformance.Answer{Is: provider.ErrNoValues}},
		"NaN":            {func(s *session) { s.data(point{1, math.NaN()}); s.end() }, conformance.Answer{Is: provider.ErrNoValues}},
		"infinity":       {func(s *session) { s.data(point{1, math.Inf(1)}); s.end() }, conformance.Answer{Is: provider.ErrNoValues}},
		"several series": {func(s *session) { s.data(point{1, 1.0}, point{2, 2.0}); s.end() }, conformance.Answer{Is: provider.ErrMultipleValues, Says: ".sum()"}},
		"a mistake": {func(s *session) {
			s.text(`{"type":"error","channel":%q,"error":400,"errorType":"ANALYTICS_PROGRAM_NAME_ERROR","message":"Unknown name: dato"}`, s.channel)
			s.end()
		}, conformance.Answer{Is: provider.ErrInvalidQuery, Says: "Unknown name: dato"}},
		"broken JSON": {func(s *session) { s.text(`{"type":"data`); s.end() }, conformance.Answer{Says: "not understood"}},
		"aborted": {func(s *session) {
			s.data(point{1, 5.0})
			s.text(`{"type":"control-message","channel":%q,"event":"CHANNEL_ABORT"}`, s.channel)
			s.end()
		}, conformance.Answer{Says: "stopped"}},
		"the connection ends": {func(s *session) { s.data(point{1, 5.0}) }, conformance.Answer{Says: "failed"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := backend()
			server := signalFlow(t, func(s *session, _ map[string]any) { tc.play(s) })
			value, err := b.Provider(t, b.Config(server.URL), &conformance.Clock{}).Query(t.Context(), b.Query)
			conformance.Expect(t, tc.want, value, err)
		})
	}
}

func TestRefusals(t *testing.T) {
	b := backend()
	for _, status := range []int{401, 403, 429, 500} {
		server := conformance.Serve(t, conformance.Always(status, "sf-secret is not welcome"))
		_, err := b.Provider(t, b.Config(server.URL), &conformance.Clock{}).Query(t.Context(), b.Query)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprint(server.Listener.Addr().String(), " answered ", status)) || strings.Contains(err.Error(), "sf-secret") {
			t.Errorf("status %d: %v", status, err)
		}
	}
	b.Credentials["sf_token_key"] = "another-secret"
	server := signalFlow(t, func(*session, map[string]any) {})
	if _, err := b.Provider(t, b.Config(server.URL), &conformance.Clock{}).Query(t.Context(), b.Query); err == nil || strings.Contains(err.Error(), "another-secret") {
		t.Errorf("another token: %v", err)
	}
	server.Close()
	if _, err := b.Provider(t, b.Config(server.URL), &conformance.Clock{}).Query(t.Context(), b.Query); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("nobody there: %v", err)
	}
	if _, err := b.New(outbound.NewTransports(&conformance.Clock{}), nil)(provider.Config{Interval: "1m"}); err == nil || !strings.Contains(err.Error(), "sf_token_key") {
		t.Errorf("no Secret: %v", err)
	}
}

// busyAtFirst answers the first handshakes as a service does that is at its limit.
func busyAtFirst(times, status int, then http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if times--; times >= 0 {
			w.Header().Set("Retry-After", "2")
			w.WriteHeader(status)
			return
		}
		then.ServeHTTP(w, r)
	}
}

func TestBusyServerIsAskedAgain(t *testing.T) {
	for _, status := range []int{429, 500, 503} {
		b, c := backend(), &conformance.Clock{}
		ready := signalFlow(t, func(s *session, _ map[string]any) { s.data(point{1, 7.0}); s.end() })
		server := conformance.Serve(t, busyAtFirst(2, status, ready.Config.Handler))
		value, err := b.Provider(t, b.Config(server.URL), c).Query(t.Context(), b.Query)
		conformance.Expect(t, conformance.Answer{Value: 7}, value, err)
		if waits := c.Waits(); !slices.Equal(waits, []time.Duration{2 * time.Second, 2 * time.Second}) {
			t.Errorf("status %d with Retry-After: 2: waited %v", status, waits)
		}
	}
}

// The token goes to the server that the template names and nowhere else, and a message that is too long ends the query.
func TestRedirectsAndLongMessages(t *testing.T) {
	b, asked := backend(), false
	other := signalFlow(t, func(s *session, _ map[string]any) { asked = true; s.data(point{1, 1.0}); s.end() })
	redirect := conformance.Serve(t, http.RedirectHandler(other.URL, http.StatusTemporaryRedirect).ServeHTTP)
	if _, err := b.Provider(t, b.Config(redirect.URL), &conformance.Clock{}).Query(t.Context(), b.Query); err == nil || asked {
		t.Errorf("redirected: %v, %t", err, asked)
	}
	long := signalFlow(t, func(s *session, _ map[string]any) { s.text("%s", strings.Repeat(" ", maxMessage+1)); s.end() })
	if _, err := b.Provider(t, b.Config(long.URL), &conformance.Clock{}).Query(t.Context(), b.Query); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("long: %v", err)
	}
}

func TestSlowServer(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	for name, server := range map[string]*conformance.Server{
		"no handshake": conformance.Serve(t, func(http.ResponseWriter, *http.Request) { <-release }),
		"no data":      signalFlow(t, func(*session, map[string]any) { <-release }),
		"no end":       signalFlow(t, func(s *session, _ map[string]any) { s.data(point{1, 5.0}); <-release }),
	} {
		b := backend()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := b.Provider(t, b.Config(server.URL), &conformance.Clock{}).Query(ctx, b.Query)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer in time") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRequests(t *testing.T) {
	b := backend()
	var got map[string]any
	server := signalFlow(t, func(s *session, execute map[string]any) {
		got = execute
		s.data(point{1, 1.0})
		s.end()
	})
	if _, err := b.Provider(t, b.Config(server.URL), &conformance.Clock{}).Query(t.Context(), b.Query); err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(got)
	if got["program"] != program || got["start"] != 1795953000500.0 || got["stop"] != 1795953600500.0 || got["immediate"] != true {
		t.Errorf("got %s", text)
	}
	requests, _ := server.Requests()
	if requests[0].URL.Path != "/v2/signalflow/connect" {
		t.Errorf("got %s", requests[0].URL)
	}
	online := conformance.Serve(t, conformance.Always(200, `{"results":[]}`))
	if err := b.Provider(t, b.Config(online.URL), &conformance.Clock{}).Online(t.Context()); err != nil {
		t.Fatal(err)
	}
	requests, _ = online.Requests()
	if r := requests[0]; r.URL.String() != "/v2/metric?limit=1" || r.Header.Get("X-SF-Token") != "sf-secret" {
		t.Errorf("got %s %v", r.URL, r.Header)
	}
}

func TestStreamOf(t *testing.T) {
	b := backend()
	p := b.Provider(t, b.Config("https://api.us1.signalfx.com"), &conformance.Clock{})
	if got := p.(*Client).stream; got != "wss://stream.us1.signalfx.com/v2/signalflow" {
		t.Errorf("got %s", got)
	}
}
