package telemetry

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
)

// Queue returns what the queue of a name reports to.
func (r *Recorder) Queue(name string) *Queue {
	return &Queue{
		depth: r.vectors.gauges[nameQueueDepth].WithLabelValues(name), adds: r.vectors.counters[nameQueueAdds].WithLabelValues(name),
		retries: r.vectors.counters[nameQueueRetries].WithLabelValues(name),
		waits:   r.vectors.histograms[nameQueueLatency].WithLabelValues(name), work: r.vectors.histograms[nameQueueWork].WithLabelValues(name),
	}
}

// Queue records what becomes of the keys of a queue.
type Queue struct {
	depth         prometheus.Gauge
	adds, retries prometheus.Counter
	waits, work   prometheus.Observer
}

// Queued is called when a key begins to wait for a worker.
func (q *Queue) Queued() {
	q.adds.Inc()
	q.depth.Inc()
}

// Taken is called when a worker has got a key that waited.
func (q *Queue) Taken(waited time.Duration) {
	q.depth.Dec()
	q.waits.Observe(waited.Seconds())
}

// Done is called when the work on a key has ended.
func (q *Queue) Done(took time.Duration) { q.work.Observe(took.Seconds()) }

// Retried is called when the work on a key has failed.
func (q *Queue) Retried() { q.retries.Inc() }

// Leads records whether this process acts. The lease is the name of the Lease that permits one process to.
func (r *Recorder) Leads(lease string, acts bool) {
	value := 0.0
	if acts {
		value = 1
	}
	r.vectors.gauges[nameLeader].WithLabelValues(lease).Set(value)
}

// Calls records the calls that next sends to API servers.
func (r *Recorder) Calls(next http.RoundTripper, clock clock.PassiveClock) http.RoundTripper {
	return &calls{next, r.vectors, clock}
}

type calls struct {
	next http.RoundTripper
	vectors
	clock clock.PassiveClock
}

// RoundTrip sends one call.
func (c *calls) RoundTrip(req *http.Request) (*http.Response, error) {
	since := c.clock.Now()
	resp, err := c.next.RoundTrip(req)
	code := "error"
	if err == nil {
		code = strconv.Itoa(resp.StatusCode)
	}
	c.counters[nameCalls].WithLabelValues(code, req.Method, req.URL.Host).Inc()
	c.histograms[nameCallTime].WithLabelValues(req.Method, req.URL.Host).Observe(c.clock.Since(since).Seconds())
	return resp, err
}

// WrappedRoundTripper is for the parts of client-go that look for the transport below.
func (c *calls) WrappedRoundTripper() http.RoundTripper { return c.next }
