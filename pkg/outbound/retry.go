package outbound

import (
	"io"
	"net/http"
	"strconv"
	"time"

	"k8s.io/utils/clock"
)

const (
	// maxTries is how often a server that is busy is asked in one evaluation.
	maxTries = 3
	// firstPause is the wait before the second try where the server asks for less. It doubles.
	firstPause = 250 * time.Millisecond
	// drained is how much of an answer is read to use its connection again, in bytes.
	drained = 64 << 10
)

// Retrier asks a server again that answers 429 or 5xx: at most twice, no sooner than the server wants to be asked, and only if the
// deadline of the request leaves time for it. The last answer is returned, whatever it is. An operator that gives up at once, or
// that goes on asking, would turn the limit of a metrics service into failed rollouts.
type Retrier struct {
	Base  http.RoundTripper
	Clock clock.Clock
}

// RoundTrip sends the request, and again.
func (r *Retrier) RoundTrip(req *http.Request) (*http.Response, error) {
	pause := firstPause
	for try := 1; ; try++ {
		resp, err := r.Base.RoundTrip(req)
		if err != nil || !busy(resp.StatusCode) || try == maxTries {
			return resp, err
		}
		wait := max(pause, retryAfter(resp.Header, r.Clock.Now()))
		pause *= 2
		again, ok := replay(req)
		if !ok || !r.timeFor(req, wait) {
			return resp, nil
		}
		_, _ = io.CopyN(io.Discard, resp.Body, drained)
		_ = resp.Body.Close()
		timer := r.Clock.NewTimer(wait)
		select {
		case <-req.Context().Done():
			timer.Stop()
			return nil, req.Context().Err()
		case <-timer.C():
		}
		req = again
	}
}

func busy(status int) bool {
	return status == http.StatusTooManyRequests || status >= http.StatusInternalServerError && status != http.StatusNotImplemented
}

func (r *Retrier) timeFor(req *http.Request, wait time.Duration) bool {
	deadline, ok := req.Context().Deadline()
	return !ok || deadline.Sub(r.Clock.Now()) > wait
}

// replay is the request with its body from the beginning.
func replay(req *http.Request) (*http.Request, bool) {
	if req.Body == nil || req.Body == http.NoBody {
		return req, true
	}
	if req.GetBody == nil {
		return nil, false
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, false
	}
	again := req.Clone(req.Context())
	again.Body = body
	return again, true
}

// retryAfter is how long the server asks to be left alone: seconds or a date in Retry-After (RFC 9110, section 10.2.3), or the seconds
// to the next period in X-RateLimit-Reset, as Datadog has it.
func retryAfter(header http.Header, now time.Time) time.Duration {
	for _, name := range []string{"Retry-After", "X-RateLimit-Reset"} {
		text := header.Get(name)
		if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
			return time.Duration(seconds) * time.Second
		}
		if at, err := http.ParseTime(text); err == nil {
			return max(0, at.Sub(now))
		}
	}
	return 0
}
