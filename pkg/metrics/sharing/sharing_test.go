package sharing

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/metrics/provider"
)

// server answers the number of queries that it was asked so far, or fails.
type server struct {
	mu             sync.Mutex
	asked          int
	atOnce, atMost int
	// takes is how long an answer takes. A canceled one ends at once.
	takes time.Duration
	err   error
}

func (s *server) send(ctx context.Context) (float64, error) {
	s.mu.Lock()
	s.asked++
	n := s.asked
	s.atOnce++
	s.atMost = max(s.atMost, s.atOnce)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.atOnce--
	}()
	select {
	case <-time.After(s.takes):
		return float64(n), s.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// query is one that anybody may share for two seconds.
func (s *server) query(text, asker string) Query {
	return Query{
		ID: sha256.Sum256([]byte(text)), Server: fmt.Sprintf("%p", s), Asker: asker, Age: 2 * time.Second, Limit: 5 * time.Second, Send: s.send,
	}
}

func newDesk(perServer int) *Desk { return &Desk{Clock: clock.RealClock{}, PerServer: perServer} }

// asks asks once for each asker, one after the other with a pause, and returns the answers.
func asks(t *testing.T, d *Desk, s *server, pause time.Duration, askers ...string) []float64 {
	t.Helper()
	var got []float64
	for _, asker := range askers {
		value, err := d.Ask(t.Context(), s.query("q", asker))
		if err != nil && !errors.Is(err, s.err) {
			t.Fatal(err)
		}
		got = append(got, value)
		time.Sleep(pause)
	}
	return got
}

func TestAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		pause  time.Duration
		askers []string
		want   string
	}{
		"others share":                    {0, []string{"a", "b", "c"}, "[1 1 1]"},
		"nobody judges by one twice":      {0, []string{"a", "b", "a", "b", "b"}, "[1 1 2 2 3]"},
		"an old one is asked for again":   {time.Second, []string{"a", "b", "c", "d", "e"}, "[1 1 2 2 3]"},
		"who has no name may have it all": {0, []string{"", "", ""}, "[1 1 1]"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got := fmt.Sprint(asks(t, newDesk(0), &server{}, tc.pause, tc.askers...)); got != tc.want {
					t.Errorf("got %s, want %s", got, tc.want)
				}
			})
		})
	}
}

// Who wants a query of its own gets it, and others get its answer.
func TestOwnQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := newDesk(0), &server{}
		asks(t, d, s, 0, "a")
		own := s.query("q", "b")
		own.Age = 0
		if value, err := d.Ask(t.Context(), own); value != 2 || err != nil {
			t.Errorf("got %v, %v", value, err)
		}
		if got := asks(t, d, s, 0, "c"); got[0] != 2 {
			t.Errorf("the newer answer is %v", got)
		}
	})
}

// No data is an answer. An error is none: whoever waits for it shares it, and who comes later asks.
func TestErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		empty := &server{err: fmt.Errorf("q: %w", provider.ErrNoValues)}
		asks(t, newDesk(0), empty, 0, "a", "b", "c")
		down := &server{err: errors.New("down"), takes: time.Second}
		d := newDesk(0)
		var wait sync.WaitGroup
		for i := range 10 {
			wait.Go(func() {
				if _, err := d.Ask(t.Context(), down.query("q", fmt.Sprint(i))); !errors.Is(err, down.err) {
					t.Errorf("got %v", err)
				}
			})
		}
		wait.Wait()
		asks(t, d, down, 0, "later")
		if empty.asked != 1 || down.asked != 2 {
			t.Errorf("asked %d times for no data and %d times for an error", empty.asked, down.asked)
		}
	})
}

// Who goes away takes nobody's answer along, and the last one ends the query.
func TestWhoGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := newDesk(0), &server{takes: time.Second}
		var wait sync.WaitGroup
		ask := func(after time.Duration, asker string, want error) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(after, cancel)
			wait.Go(func() {
				if _, err := d.Ask(ctx, s.query("q", asker)); !errors.Is(err, want) {
					t.Errorf("%s: got %v", asker, err)
				}
			})
			synctest.Wait()
		}
		ask(100*time.Millisecond, "first", context.Canceled)
		ask(time.Minute, "second", nil)
		wait.Wait()
		time.Sleep(time.Minute)
		ask(100*time.Millisecond, "third", context.Canceled)
		ask(200*time.Millisecond, "fourth", context.Canceled)
		begun := time.Now()
		wait.Wait()
		if took := time.Since(begun); s.asked != 2 || s.atOnce != 0 || took != 200*time.Millisecond {
			t.Errorf("asked %d times, %d are under way after %s", s.asked, s.atOnce, took)
		}
		// What was told to end answers nobody.
		ask(time.Minute, "fifth", nil)
		wait.Wait()
	})
}

// Who joins a query that gets no answer has a limit of its own, and that is the end of it.
func TestLateJoinerHasItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := newDesk(0), &server{takes: time.Hour}
		begun := time.Now()
		took := make([]time.Duration, 3)
		var wait sync.WaitGroup
		for i := range took {
			wait.Go(func() {
				if _, err := d.Ask(t.Context(), s.query("q", fmt.Sprint(i))); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
				took[i] = time.Since(begun)
			})
			synctest.Wait()
			time.Sleep(time.Second / 2)
		}
		wait.Wait()
		if fmt.Sprint(took) != "[5s 10s 10s]" || s.asked != 2 {
			t.Errorf("told after %s, asked %d times", took, s.asked)
		}
	})
}

// A server is asked no more than the bound at a time; the time in the line does not count, and no other server waits.
func TestLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, slow, other := newDesk(3), &server{takes: 4 * time.Second}, &server{}
		var wait sync.WaitGroup
		for i := range 12 {
			wait.Go(func() {
				if _, err := d.Ask(t.Context(), slow.query(fmt.Sprint(i), "")); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		begun := time.Now()
		asks(t, d, other, 0, "a")
		if waited := time.Since(begun); waited != 0 {
			t.Errorf("another server was waited for, %s", waited)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := d.Ask(ctx, slow.query("impatient", "")); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "3 queries to this server") {
			t.Errorf("got %v", err)
		}
		wait.Wait()
		if took := time.Since(begun); slow.atMost != 3 || slow.asked != 12 || took != 16*time.Second {
			t.Errorf("asked %d times, %d at a time, in %s", slow.asked, slow.atMost, took)
		}
		if len(d.lines) != 0 {
			t.Errorf("%d lines are left", len(d.lines))
		}
	})
}

func TestNothingIsKeptForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := newDesk(1), &server{}
		for i := range 1000 {
			if _, err := d.Ask(t.Context(), s.query(fmt.Sprint(i), "a")); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(Oldest)
		asks(t, d, s, 0, "a")
		if len(d.flights) != 1 {
			t.Errorf("%d answers are kept", len(d.flights))
		}
	})
}

func TestPanicReachesAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := newDesk(1), &server{}
		q := s.query("q", "")
		q.Send = func(context.Context) (float64, error) { time.Sleep(time.Second); panic("bug") }
		var wait sync.WaitGroup
		for range 3 {
			wait.Go(func() {
				defer func() {
					if p := recover(); !strings.Contains(fmt.Sprint(p), "bug") {
						t.Errorf("recovered %v", p)
					}
				}()
				_, _ = d.Ask(t.Context(), q)
			})
		}
		wait.Wait()
		asks(t, d, s, 0, "a")
	})
}
