package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	// pace is the time from one request to the next. What is not served for longer loses at least one.
	pace = 25 * time.Millisecond
	// faulty is the version that answers every other request with an error.
	faulty = "6.9.4"
)

// errs is whether errors with a version are its own, and not those of the way to it.
func errs(version string) bool {
	return version == faulty || version == versionOf(flaky) || version == versionOf(asFlaky) || version == versionOf(flakier)
}

// requests asks an application without a pause and remembers what became of each request. A request is sent when it is due,
// whatever became of those before it. Every other one has a connection of its own, the rest share connections that are kept.
type requests struct {
	url, host   string
	kept, fresh *http.Client
	stop        context.CancelFunc
	wait        sync.WaitGroup

	mu       sync.Mutex
	sent     int
	lost     []loss
	answers  []answer
	answered chan struct{}
}

// loss is a request of a moment that nobody answered.
type loss struct {
	sent time.Time
	text string
}

// answer says which version answered the request of a moment, and whether that had a connection of its own.
type answer struct {
	sent    time.Time
	version string
	fresh   bool
}

// load sends requests to the Service of the team until end is called. It begins when the Service leads somewhere: that is some
// time after its pods are ready.
func (t *team) load() *requests {
	t.Helper()
	address := "podinfo." + t.ns + ".svc.cluster.local:9898"
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	t.must(wait.PollUntilContextTimeout(t.Context(), pace, patience, true, func(context.Context) (bool, error) {
		_, _, err := ask(client, "http://"+address+"/version", "")
		return err == nil, nil
	}))
	return t.loadTo(address, "")
}

// loadTo sends them to an address, for a host if it is not empty.
func (t *team) loadTo(address, host string) *requests {
	ctx, stop := context.WithCancel(t.Context())
	dial := (&net.Dialer{Timeout: patience}).DialContext
	r := &requests{
		url: "http://" + address + "/version", host: host, stop: stop, answered: make(chan struct{}),
		kept:  &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 100}},
		fresh: &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}},
	}
	r.wait.Go(func() { r.run(ctx) })
	return r
}

func (r *requests) run(ctx context.Context) {
	due := time.NewTicker(pace)
	defer due.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-due.C:
		}
		client, fresh := r.kept, n%2 == 0
		if fresh {
			client = r.fresh
		}
		r.wait.Go(func() {
			at := time.Now()
			version, _, err := ask(client, r.url, r.host)
			r.note(answer{at, version, fresh}, err)
		})
	}
}

func (r *requests) note(a answer, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent++
	if err != nil {
		text := fmt.Sprintf("%s after %s: %v", a.sent.Format("15:04:05.000"), time.Since(a.sent).Round(time.Millisecond), err)
		r.lost = append(r.lost, loss{a.sent, text})
		return
	}
	r.answers = append(r.answers, a)
	close(r.answered)
	r.answered = make(chan struct{})
}

// routeHeader is where a route of the gateway may say which one it is.
const routeHeader = "X-Route"

// ask returns the version that answered a request with these headers, and the route it came by. Without a version it was not
// the application that answered.
func ask(client *http.Client, url, host string, names ...string) (version, route string, err error) {
	header := http.Header{}
	for _, name := range names {
		header.Set(name, "1")
	}
	from, err := fetch(client, url, host, header)
	return from.version, from.header.Get(routeHeader), err
}

// source says where an answer came from.
type source struct {
	version string
	header  http.Header
}

// fetch sends a request.
func fetch(client *http.Client, url, host string, header http.Header) (source, error) {
	request, err := http.NewRequest(http.MethodGet, url, http.NoBody)
	if err != nil {
		return source{}, err
	}
	request.Host = host
	if header != nil {
		request.Header = header
	}
	response, err := client.Do(request)
	if err != nil {
		return source{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return source{}, err
	}
	var from struct{ Version string }
	if err := json.Unmarshal(body, &from); err != nil || from.Version == "" {
		return source{}, fmt.Errorf("%s: %s", response.Status, body)
	}
	if response.StatusCode != http.StatusOK && !errs(from.Version) {
		return source{}, fmt.Errorf("%s by %s", response.Status, from.Version)
	}
	return source{from.Version, response.Header}, nil
}

// until waits until the answers to requests that are sent from now on are enough.
func (r *requests) until(t *team, what string, enough func([]answer) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for from := time.Now(); ; {
		answers, more := r.since(from)
		if enough(answers) {
			return
		}
		select {
		case <-more:
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v; answers since %s: %v", what, ctx.Err(), from.Format(time.TimeOnly), answers)
		}
	}
}

func (r *requests) since(from time.Time) (answers []answer, more <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.answers {
		if a.sent.After(from) {
			answers = append(answers, a)
		}
	}
	return answers, r.answered
}

// goOn waits for a number of answers.
func (r *requests) goOn(t *team, n int) {
	t.Helper()
	r.until(t, "answers", func(answers []answer) bool { return len(answers) >= n })
}

// comeFrom waits until one version gives all answers on new connections. Those that are kept stay where they are.
func (r *requests) comeFrom(t *team, version string) {
	t.Helper()
	r.until(t, "answers of "+version, func(answers []answer) bool {
		row := 0
		for _, a := range answers {
			switch {
			case a.fresh && a.version == version:
				row++
			case a.fresh:
				row = 0
			}
		}
		return row >= 15
	})
}

// versions counts the answers so far.
func (r *requests) versions() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	versions := map[string]int{}
	for _, a := range r.answers {
		versions[a.version]++
	}
	return versions
}

// end stops the requests, and fails the test if one of them was lost.
func (r *requests) end(t testing.TB) {
	t.Helper()
	r.endSince(t, time.Time{})
}

// endSince stops the requests, and fails the test if one was lost that was sent after a moment.
func (r *requests) endSince(t testing.TB, from time.Time) {
	t.Helper()
	r.stop()
	r.wait.Wait()
	r.kept.CloseIdleConnections()
	t.Logf("%d requests, %d lost", r.sent, len(r.lost))
	var late []string
	for _, l := range r.lost {
		if l.sent.After(from) {
			late = append(late, l.text)
		}
	}
	if len(late) > 0 || r.sent < 100 {
		t.Errorf("%d of %d requests lost:\n%s", len(late), r.sent, strings.Join(late, "\n"))
	}
}
