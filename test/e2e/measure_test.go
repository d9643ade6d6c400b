package e2e

import (
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// fair is how many requests tell a router that keeps to its weights from one that is off by more than leeway. Of n requests
	// that choose independently the share of the canary has a standard deviation of sqrt(p(1-p)/n), at most 0.56 points with
	// n = 8,000 and p = 50 %. 3 points are 5.4 of these: a fair router is that far off less than once in 10^7 measurements.
	fair = 8000
	// leeway is how many points of percentage a measured share may be off.
	leeway = 3
	// few are enough to see that weights have changed at all. Steps are 20 points apart, the middle between two is 4.5
	// standard deviations of 2.2 points from each.
	few = 500
	// senders send at the same time. They are a few, so that the machine is not what is measured.
	senders = 4
)

// tally counts answers by the version that they came from.
type tally map[string]int

// share is the percentage of a version.
func (y tally) share(version string) float64 {
	all := 0
	for _, n := range y {
		all += n
	}
	return 100 * float64(y[version]) / float64(all)
}

// tally sends requests with the headers, one after the other on a few connections. None of them may be lost.
func (l *loaded) tally(n int, header http.Header) tally {
	l.Helper()
	return l.tallyOf("/version", n, header)
}

// tallyOf sends them to a path.
func (l *loaded) tallyOf(path string, n int, header http.Header) tally {
	l.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: senders}}
	defer client.CloseIdleConnections()
	var (
		mu   sync.Mutex
		lost []string
		left atomic.Int64
		wait sync.WaitGroup
	)
	all := tally{}
	left.Store(int64(n))
	for range senders {
		wait.Go(func() {
			for left.Add(-1) >= 0 {
				from, err := fetch(client, "http://"+l.plane.address+path, l.host, header)
				mu.Lock()
				if err != nil {
					lost = append(lost, time.Now().Format("15:04:05.000 ")+err.Error())
				} else {
					all[from.version]++
				}
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	if len(lost) > 0 {
		l.Errorf("%d of %d requests lost:\n%s", len(lost), n, strings.Join(lost[:min(10, len(lost))], "\n"))
	}
	return all
}

// shares checks that the canary gets its share of requests, once the data plane has left the share before it.
func (l *loaded) shares(version string, before, want int32) {
	l.Helper()
	l.moves(version, before, want)
	l.keeps(version, want)
}

// moves waits until the share of a version is nearer to a percentage than to the one before.
func (l *loaded) moves(version string, before, want int32) {
	l.Helper()
	middle := float64(before+want) / 2
	for deadline := time.Now().Add(patience); ; {
		share := l.tally(few, nil).share(version)
		if (share > middle) == (want > before) {
			return
		}
		if time.Now().After(deadline) {
			l.Fatalf("%s gets %.1f %% of the requests, want %d %%", version, share, want)
		}
	}
}

// keeps checks that a version gets its share of requests at any time from now on.
func (l *loaded) keeps(version string, want int32) {
	l.Helper()
	got := l.tally(fair, nil)
	l.Logf("weight %d: %.2f %% of %d requests", want, got.share(version), fair)
	if off := math.Abs(got.share(version) - float64(want)); off > leeway {
		l.Errorf("%s gets %.1f %% of the requests, want %d %%: %v", version, got.share(version), want, got)
	}
}

// only checks that requests with the headers are answered by one version alone.
func (l *loaded) only(version string, header http.Header) {
	l.Helper()
	got := l.tally(few, header)
	if got[version] != few {
		l.Errorf("requests with %v come from %v, want %s alone", header, got, version)
	}
}

// comesOnly waits until requests with the headers are answered by one version, and checks that it stays so.
func (l *loaded) comesOnly(version string, header http.Header) {
	l.Helper()
	for deadline := time.Now().Add(patience); l.tally(few/10, header)[version] < few/10; {
		if time.Now().After(deadline) {
			l.Fatalf("requests with %v do not come from %s", header, version)
		}
	}
	l.only(version, header)
}

// headers are those of a request, each as "Name: value".
func headers(lines ...string) http.Header {
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	return h
}
