package fence

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

const limit = 15 * time.Second

// machine is a clock whose monotonic part stands still while the machine is suspended.
type machine struct {
	*clocktesting.FakeClock
	suspended time.Duration
}

func (m *machine) Since(t time.Time) time.Duration { return m.FakeClock.Since(t) - m.suspended }

func (m *machine) suspend(d time.Duration) {
	m.Step(d)
	m.suspended += d
}

func newMachine() *machine {
	return &machine{FakeClock: clocktesting.NewFakeClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))}
}

func TestFence(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		happens func(m *machine, f *Fence)
		// closed is a part of the error, empty where the fence is open.
		closed string
	}{
		"just renewed":         {happens: func(*machine, *Fence) {}},
		"shortly before":       {happens: func(m *machine, _ *Fence) { m.Step(limit - 1) }},
		"the process stopped":  {happens: func(m *machine, _ *Fence) { m.Step(limit) }, closed: "renewed last 15s ago"},
		"the machine stopped":  {happens: func(m *machine, _ *Fence) { m.suspend(time.Minute) }, closed: "renewed last 1m0s ago"},
		"a bit of both":        {happens: func(m *machine, _ *Fence) { m.Step(limit / 2); m.suspend(limit / 2) }, closed: "not sent"},
		"the clock is put on":  {happens: func(m *machine, _ *Fence) { m.suspend(time.Hour) }, closed: "renewed last 1h0m0s ago"},
		"the clock is put off": {happens: func(m *machine, _ *Fence) { m.suspend(-time.Hour) }},
		"stopped, put off":     {happens: func(m *machine, _ *Fence) { m.suspend(-time.Hour); m.Step(limit) }, closed: "not sent"},
		"renewed again": {happens: func(m *machine, f *Fence) {
			m.Step(limit)
			f.Renewed(m.Now())
			m.Step(limit / 2)
		}},
		"renewed by a call that began long ago": {happens: func(m *machine, f *Fence) {
			began := m.Now()
			m.Step(limit)
			f.Renewed(began)
		}, closed: "not sent"},
		"lost": {happens: func(_ *machine, f *Fence) { f.Close() }, closed: "does not hold the lease"},
	} {
		m := newMachine()
		f := New(limit, m)
		if f.Check() == nil {
			t.Errorf("%s: open before the first renewal", name)
		}
		f.Renewed(m.Now())
		test.happens(m, f)
		err := f.Check()
		var closed ClosedError
		if (err != nil) != (test.closed != "") || err != nil && (!errors.As(err, &closed) || !strings.Contains(err.Error(), test.closed)) {
			t.Errorf("%s: %v, want %q", name, err, test.closed)
		}
	}
}

// server notes what it was asked to write.
func server(t *testing.T) (s *httptest.Server, written func() []string) {
	var got []string
	s = httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil {
			got = append(got, r.Method+" "+string(body))
		}
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, func() []string {
		s.Close()
		return got
	}
}

func send(ctx context.Context, next http.RoundTripper, method, url string) error {
	var body io.Reader
	if method != http.MethodGet {
		body = strings.NewReader("{}")
	}
	request, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: Transport{next}}).Do(request)
	if err == nil {
		response.Body.Close()
	}
	return err
}

func isClosed(err error) bool {
	var closed ClosedError
	return errors.As(err, &closed)
}

// Only writes of work that is fenced are held back, each of them.
func TestTransport(t *testing.T) {
	t.Parallel()
	s, written := server(t)
	m := newMachine()
	f := New(limit, m)
	f.Renewed(m.Now())
	next, fenced := s.Client().Transport, With(t.Context(), f)
	if err := send(fenced, next, http.MethodPut, s.URL); err != nil {
		t.Errorf("open: %v", err)
	}
	m.Step(limit)
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		if err := send(context.WithoutCancel(fenced), next, method, s.URL); !isClosed(err) {
			t.Errorf("%s behind a closed fence: %v", method, err)
		}
	}
	if err := send(fenced, next, http.MethodGet, s.URL); err != nil {
		t.Errorf("a read behind a closed fence: %v", err)
	}
	if err := send(t.Context(), next, http.MethodPost, s.URL); err != nil {
		t.Errorf("a write of no fenced work: %v", err)
	}
	if got := strings.Join(written(), ", "); got != "PUT {}, GET , POST {}" {
		t.Errorf("the server got %s", got)
	}
}

// A write that waits for a connection is looked at once more when it has one.
func TestTransportWhileConnecting(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		s, written := server(t)
		m := newMachine()
		f := New(limit, m)
		f.Renewed(m.Now())
		next := s.Client().Transport.(*http.Transport).Clone()
		next.ForceAttemptHTTP2 = http2
		if !http2 {
			next.TLSClientConfig.NextProtos = []string{"http/1.1"}
		}
		next.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			m.Step(limit)
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
		if err := send(With(t.Context(), f), next, http.MethodPatch, s.URL); !isClosed(err) {
			t.Errorf("HTTP/2 %t: %v", http2, err)
		}
		next.CloseIdleConnections()
		if got := written(); got != nil {
			t.Errorf("HTTP/2 %t: the server got %v", http2, got)
		}
	}
}
