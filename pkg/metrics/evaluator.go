package metrics

import (
	"cmp"
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/metrics/sharing"
)

// Timeout is how long the template and Secret of one metric may take, and its query as well, where neither an Evaluator nor the
// back-end says anything else.
const Timeout = 5 * time.Second

// Templates finds MetricTemplates, from a cache. The result is shared and is not changed.
type Templates interface {
	MetricTemplate(namespace, name string) (*v1beta1.MetricTemplate, error)
}

// Secrets reads the data of a Secret.
type Secrets interface {
	SecretData(ctx context.Context, namespace, name string) (map[string][]byte, error)
}

// KnativeServices tells the latest created revision of a Knative Service.
type KnativeServices interface {
	LatestRevision(ctx context.Context, namespace, name string) (string, error)
}

// Evaluator reads the metrics of Canaries. It is safe for concurrent use and must not be copied.
type Evaluator struct {
	// Server is asked where neither the Canary nor a template names another.
	Server Server
	// FlagProvider is the flag -mesh-provider.
	FlagProvider string
	// NoCrossNamespaceRefs is the flag of that name: templates outside of the namespace of the Canary are refused.
	NoCrossNamespaceRefs bool

	Templates Templates
	Secrets   Secrets
	// Knative may be nil where no Canary has a Knative Service as its target.
	Knative KnativeServices
	// Registry are the back-ends. Default: NewRegistry with the real clock and no cluster.
	Registry Registry
	// MinInterval is the least time between two checks of a Canary.
	MinInterval time.Duration
	// Limit is how long one query may take, but for back-ends that have a longer limit of their own. Default: Timeout.
	Limit time.Duration
	// PerServer bounds the queries that one server is asked at the same time. 0 means no bound.
	PerServer int
	// Clock measures how long queries take, and the age of what is remembered. Default: the real one.
	Clock clock.PassiveClock
	// Asked is told of each query of a Canary: the type of the back-end, what came of it, and how long the Canary waited for it, be it
	// shared with others or not. It may be nil.
	Asked func(c *v1beta1.Canary, backend string, err error, took time.Duration)

	once   sync.Once
	secret remembered

	opened  sync.Once
	queries *sharing.Desk
}

func (e *Evaluator) registry() Registry {
	e.once.Do(func() {
		if e.Registry == nil {
			e.Registry = NewRegistry(clock.RealClock{}, Cluster{})
		}
	})
	return e.Registry
}

func (e *Evaluator) limit() time.Duration { return cmp.Or(e.Limit, Timeout) }

func (e *Evaluator) clock() clock.PassiveClock {
	return cmp.Or[clock.PassiveClock](e.Clock, clock.RealClock{})
}

// ask gets the answer for a task, under the limit of its back-end or that of all.
func (e *Evaluator) ask(ctx context.Context, c *v1beta1.Canary, t task, q question) (float64, error) {
	query := q.provider.query(e.limit(), q.query)
	query.Asker, query.Age = askerOf(c, t), e.ageOf(c, t)
	since := e.clock().Now()
	value, err := e.desk().Ask(ctx, query)
	if e.Asked != nil {
		e.Asked(c, q.backend, err, e.clock().Since(since))
	}
	return value, err
}

// measure is what a query of a metric is about.
type measure int

// The measures. Good ones are requests that did not fail, or were fast enough; only built-in metrics have them.
const (
	measureValue measure = iota
	measureSamples
	measureGood
)

// task is one evaluation of one metric.
type task struct {
	index   int
	metric  v1beta1.CanaryMetric
	source  analysis.Source
	measure measure
	vars    Vars
}

// Read evaluates all metrics of the Canary in parallel, each under a deadline, and returns a reading for each, and one of how the
// requests were divided where a step asks for that. What failed is in the readings.
func (e *Evaluator) Read(ctx context.Context, c *v1beta1.Canary) []analysis.Reading {
	tasks := e.tasksOf(c)
	if e.readsShares(c) {
		tasks = append(tasks, e.sharesTask(c))
	}
	readings := make([]analysis.Reading, len(tasks))
	route, routeErr := e.knativeRoute(ctx, c, len(tasks) > 0)
	inParallel(ctx, len(tasks), func(ctx context.Context, i int) {
		if route != "" {
			tasks[i].vars.Route = route
		}
		if routeErr != nil {
			readings[i] = e.unusable(c, tasks[i], routeErr)
			return
		}
		readings[i] = e.read(ctx, c, tasks[i])
	})
	return readings
}

func (e *Evaluator) tasksOf(c *v1beta1.Canary) []task {
	var tasks []task
	for i, m := range c.GetAnalysis().Metrics {
		for _, source := range analysis.Sources(m) {
			tasks = append(tasks, task{index: i, metric: m, source: source, vars: e.varsOf(c, m)})
		}
	}
	return tasks
}

// varsOf are the values for queries about a metric. What is counted for a sequential test is counted once: since the check before.
func (e *Evaluator) varsOf(c *v1beta1.Canary, m v1beta1.CanaryMetric) Vars {
	v := NewVars(c, m)
	if analysis.Counted(m) {
		v.Interval = fmt.Sprintf("%dms", c.GetAnalysisInterval(e.MinInterval).Milliseconds())
	}
	return v
}

// inParallel calls do for 0 to n-1. A panic in one of them becomes a panic of the caller,
// who confines it to one Canary; left in its goroutine it would end the process.
func inParallel(ctx context.Context, n int, do func(ctx context.Context, i int)) {
	var wg sync.WaitGroup
	panics := make(chan string, n)
	for i := range n {
		wg.Go(func() {
			defer func() {
				if value := recover(); value != nil {
					panics <- fmt.Sprintf("%v\n%s", value, debug.Stack())
				}
			}()
			do(ctx, i)
		})
	}
	wg.Wait()
	select {
	case value := <-panics:
		panic(value)
	default:
	}
}
