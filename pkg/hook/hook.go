package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

const (
	// DefaultTimeout is the time for one attempt where the webhook has no timeout.
	DefaultTimeout = 10 * time.Second

	minBackoff = time.Second
	maxBackoff = 30 * time.Second

	// maxText is how much of an answer, in bytes, becomes part of an event.
	maxText = 4 << 10
	// maxDrain is how much of an answer is read to keep the connection; closing a longer one is cheaper.
	maxDrain = 256 << 10
)

const contentTypeJSON = "application/json"

// HeaderIdempotencyKey lets receivers recognize a call they have answered before: calls are repeated after a crash.
const HeaderIdempotencyKey = "Idempotency-Key"

// Result is the answer of a webhook.
type Result struct {
	// Passed is whether the final status was 2xx.
	Passed bool
	// Text says why not: the body of the answer, or what went wrong. It may be empty.
	Text string
	// Status is that of the final answer, 0 without one.
	Status int
}

// Caller calls webhooks. Its calls share connections. It is safe for concurrent use.
type Caller struct {
	// Events is the form of what webhooks of type event get. Default: FormatFlagger.
	Events Format

	clock        clock.Clock
	verify, skip *http.Client
}

// NewCaller returns a Caller that takes the time between attempts from clk.
func NewCaller(clk clock.Clock) *Caller {
	return &Caller{clock: clk, verify: client(false), skip: client(true)}
}

// CallAll calls webhooks of one type in list order. Where one answer decides for all, it stops at that: at the first failure
// or, for rollback hooks, at the first success. The results are those of the first hooks, as many as were called. The key of
// each call is key/<name of hook>.
func (c *Caller) CallAll(ctx context.Context, hooks []v1beta1.CanaryWebhook, payload Payload, key string) []Result {
	return InOrder(hooks, func(h v1beta1.CanaryWebhook) Result { return c.Call(ctx, h, payload, key+"/"+h.Name) })
}

// InOrder is CallAll for any way to call one webhook.
func InOrder(hooks []v1beta1.CanaryWebhook, call func(v1beta1.CanaryWebhook) Result) []Result {
	var results []Result
	for _, h := range hooks {
		result := call(h)
		results = append(results, result)
		if decides(h.Type, result) {
			break
		}
	}
	return results
}

// decides is whether an answer settles what the webhooks of a type are asked. Those after a rollout are told, not asked: what
// one of them makes of it is nothing to the others.
func decides(t v1beta1.HookType, result Result) bool {
	switch t {
	case v1beta1.PostRolloutHook:
		return false
	case v1beta1.RollbackHook:
		return result.Passed
	default:
		return !result.Passed
	}
}

// Call calls one webhook, with its retries. The metadata of the webhook is added to the payload.
func (c *Caller) Call(ctx context.Context, h v1beta1.CanaryWebhook, payload Payload, idempotencyKey string) Result {
	timeout, err := timeoutOf(h)
	if err != nil {
		return Result{Text: err.Error()}
	}
	target, err := parseURL(h)
	if err != nil {
		return Result{Text: err.Error()}
	}
	body, header, err := c.encode(h, payload.withMetadata(h.Metadata), idempotencyKey)
	if err != nil {
		return Result{Text: fmt.Sprintf("webhook %s: payload: %v", h.Name, err)}
	}
	call := &call{
		client:  c.verify,
		url:     target,
		body:    body,
		header:  header,
		timeout: timeout,
	}
	if h.DisableTLS {
		call.client = c.skip
	}
	return c.repeat(ctx, call, int(h.Retries)+1)
}

// encode is the body of a call and the headers that it has.
func (c *Caller) encode(h v1beta1.CanaryWebhook, payload Payload, key string) ([]byte, http.Header, error) {
	data, err := json.Marshal(payload)
	if err != nil {
		return nil, nil, err
	}
	format := FormatFlagger
	if h.GetType() == v1beta1.EventHook {
		format = c.Events
	}
	body, header, err := format.encode(payload, data, key)
	if err == nil {
		header.Set(HeaderIdempotencyKey, headerValue(key))
	}
	return body, header, err
}

// timeoutOf reads the timeout of one attempt. Texts shorter than two characters can't be durations and mean the default,
// as in Flagger.
func timeoutOf(h v1beta1.CanaryWebhook) (time.Duration, error) {
	if len(h.Timeout) < 2 {
		return DefaultTimeout, nil
	}
	timeout, err := time.ParseDuration(h.Timeout)
	if err != nil {
		return 0, fmt.Errorf("webhook %s: timeout %q is not a duration, set it to one like 30s", h.Name, h.Timeout)
	}
	if timeout <= 0 {
		return DefaultTimeout, nil
	}
	return timeout, nil
}

func parseURL(h v1beta1.CanaryWebhook) (*url.URL, error) {
	target, err := url.Parse(h.URL)
	if err != nil || (target.Scheme != "http" && target.Scheme != "https") || target.Host == "" {
		return nil, fmt.Errorf("webhook %s: url is not an http or https URL, set it to one like http://flagger-loadtester.test/", h.Name)
	}
	return target, nil
}

// repeat makes up to max attempts.
func (c *Caller) repeat(ctx context.Context, call *call, attempts int) Result {
	for attempt := 1; ; attempt++ {
		answer := call.attempt(ctx)
		if !answer.retriable() {
			return call.final(answer, attempt)
		}
		if attempt >= attempts || ctx.Err() != nil || !c.wait(ctx, answer.delay(attempt, c.clock.Now())) {
			return call.givingUp(answer, attempt)
		}
	}
}

// wait returns false if the context ended first.
func (c *Caller) wait(ctx context.Context, d time.Duration) bool {
	timer := c.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C():
		return true
	}
}

// call is one webhook with its payload.
type call struct {
	client  *http.Client
	url     *url.URL
	body    []byte
	header  http.Header
	timeout time.Duration
}

// answer is the outcome of one attempt: a status and a text, or an error.
type answer struct {
	status     int
	text       string
	retryAfter string
	location   string
	err        error
}

func (c *call) attempt(ctx context.Context) answer {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url.String(), bytes.NewReader(c.body))
	if err != nil {
		return answer{err: err}
	}
	req.Header = c.header.Clone()
	// What is called can add its own spans to the trace of the rollout.
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(req.Header))
	resp, err := c.client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxText))
	if err != nil {
		return answer{err: err}
	}
	// What is left has no use but to free the connection, so a failure here is none.
	_, _ = io.CopyN(io.Discard, resp.Body, maxDrain)
	return answer{
		status:     resp.StatusCode,
		text:       strings.ToValidUTF8(string(text), "�"),
		retryAfter: resp.Header.Get("Retry-After"),
		location:   resp.Header.Get("Location"),
	}
}

// headerValue makes a key a valid header value: names of hooks may hold any character.
func headerValue(key string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '_'
		}
		return r
	}, key)
}

func (a answer) retriable() bool {
	if a.err != nil {
		return !permanent(a.err)
	}
	return a.status == http.StatusTooManyRequests ||
		(a.status >= http.StatusInternalServerError && a.status != http.StatusNotImplemented)
}

// delay is the time until the next attempt. Only 429 and 503 say when to come back.
func (a answer) delay(attempt int, now time.Time) time.Duration {
	if a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable {
		if d, ok := parseRetryAfter(a.retryAfter, now); ok {
			return min(d, maxBackoff)
		}
	}
	// Beyond five doublings the limit is reached, and a shift by the attempt could overflow.
	return min(minBackoff<<min(attempt-1, 5), maxBackoff)
}

func parseRetryAfter(text string, now time.Time) (time.Duration, bool) {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(at.Sub(now), 0), true
	}
	return 0, false
}

// final is the result of an answer that is not retried.
func (c *call) final(a answer, attempt int) Result {
	switch {
	case a.err != nil:
		return c.givingUp(a, attempt)
	case a.status >= 200 && a.status < 300:
		return Result{Passed: true, Status: a.status}
	case a.status >= 300 && a.status < 400 && a.location != "":
		return Result{Status: a.status, Text: c.redirected(a)}
	default:
		return Result{Status: a.status, Text: a.text}
	}
}

func (c *call) redirected(a answer) string {
	location := a.location
	if u, err := c.url.Parse(location); err == nil {
		location = redact(u)
	}
	return fmt.Sprintf("POST %s was redirected (%d) to %s, which is not followed: set the url of the webhook to the final address",
		redact(c.url), a.status, location)
}

func (c *call) givingUp(a answer, attempts int) Result {
	text := fmt.Sprintf("POST %s giving up after %d attempt(s)", redact(c.url), attempts)
	if a.err != nil {
		text += ": " + c.cause(a.err)
	}
	return Result{Status: a.status, Text: text}
}

// cause is the text of a transport error with the credentials taken out of the URL that it quotes.
func (c *call) cause(err error) string {
	var urlError *url.Error
	if !errors.As(err, &urlError) {
		return err.Error()
	}
	quoted := urlError.URL
	if u, parseErr := url.Parse(quoted); parseErr == nil {
		quoted = redact(u)
	}
	if errors.Is(urlError.Err, context.DeadlineExceeded) {
		return fmt.Sprintf("%s %q: no answer within %s", urlError.Op, quoted, c.timeout)
	}
	return fmt.Sprintf("%s %q: %v", urlError.Op, quoted, urlError.Err)
}

// redact hides the userinfo as a whole: a user name may be a token.
func redact(u *url.URL) string {
	if u.User == nil {
		return u.String()
	}
	hidden := *u
	hidden.User = url.User("xxxxx")
	return hidden.String()
}
