package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller/cache"
	"flagger.app/flagger/pkg/controller/fence"
	"flagger.app/flagger/pkg/controller/outbox"
	"flagger.app/flagger/pkg/controller/workqueue"
	"flagger.app/flagger/pkg/kube"
	"flagger.app/flagger/pkg/notify"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/telemetry"
	"flagger.app/flagger/pkg/tracing"
	"flagger.app/flagger/pkg/workload"
)

// Providers finds routing providers by name. The error for an unknown name lists the known ones.
type Providers interface {
	Provider(name string) (router.Provider, error)
}

// Metrics reads the metrics of a Canary and asks their providers whether they are there.
type Metrics interface {
	Read(ctx context.Context, c *v1beta1.Canary) []analysis.Reading
	Check(ctx context.Context, c *v1beta1.Canary) error
}

// Cluster is one Kubernetes cluster.
type Cluster struct {
	Dynamic dynamic.Interface
	// Metadata is for what need not be read whole. Without it everything is.
	Metadata  metadata.Interface
	Discovery kube.Discovery
}

// Config is what a Controller is made of. All fields but those with a default are required.
type Config struct {
	// Main is the cluster of the Canaries, their workloads and Services; Kube creates events in it. Mesh is the one of the
	// routing objects, by default Main.
	Main Cluster
	Kube kube.Events
	Mesh *Cluster

	Providers Providers
	Metrics   Metrics
	Hooks     outbox.Hooks
	Notifier  notify.Notifier
	Telemetry *telemetry.Recorder
	// Tracer may be nil.
	Tracer *tracing.Tracer
	Clock  clock.WithDelayedExecution
	Log    *zap.Logger

	// Namespace restricts everything to one namespace. Empty means all.
	Namespace string
	// DefaultProvider is the flag -mesh-provider.
	DefaultProvider string
	// EventWebhook is the URL of the flag -event-webhook, empty for none.
	EventWebhook string
	// Workload are the flags that workloads depend on, Settings those that the rules depend on.
	Workload workload.Options
	Settings rollout.Settings
	// Schedule is when rollouts may begin, by default at any time.
	Schedule Schedule
	// NoCrossNamespaceRefs refuses references to other namespaces.
	NoCrossNamespaceRefs bool
	// Workers is how many passes run at a time. What they wait for is the API server, and never a webhook or a metric.
	Workers int
	// Shards is the number of parts that the Canaries are in, of which RunShard acts on one. 0 is for Run, which acts on all.
	Shards int

	// recalled, if set, is told of each finding that a pass takes over, with how to find out anew and whether that would still be
	// from the same objects. Tests compare the two.
	recalled func(found any, anew func() any, unchanged func() bool)
	// passed, if set, is told of each pass that has ended.
	passed func(key string)
}

// Controller runs the control loop.
type Controller struct {
	Config
	*crew

	index     *cache.Index
	canaries  *cache.Canaries
	main      *site
	mesh      *site
	workloads *workload.Kinds
	parts     *parts
}

// memory is what a process knows of a Canary besides its status. Losing it costs a repetition at the most.
type memory struct {
	canary *v1beta1.Canary
	// written is the Canary as the last pass has left it, nil if it has not written it, or does not know what has become of it.
	written *v1beta1.Canary
	// words are the errors that were told of it.
	words wordings
	// sight is that of the last decision.
	sight rollout.Sight
	// applyError is what the last pass failed to carry out.
	applyError string
	// kept are the unused copies of configs that may not be deleted.
	kept keptCopies
	// schedule is that of its spec.
	schedule ownSchedule
	// contentions are about objects that others change, done is what was last done to a workload.
	contentions contentions
	done        map[router.Ref]done
	// findings are what the last pass found in place.
	findings findings
}

// New returns a Controller. It does nothing before Watch and Run.
func New(cfg Config) (*Controller, error) {
	c := &Controller{Config: cfg, index: cache.NewIndex(), parts: &parts{held: map[int]*Controller{}}}
	c.Hooks = &telemetry.Hooks{Caller: cfg.Hooks, Recorder: cfg.Telemetry, Tracer: cfg.Tracer, Clock: cfg.Clock}
	c.main = c.newSite(cfg.Main)
	c.mesh = c.main
	if cfg.Mesh != nil {
		c.mesh = c.newSite(*cfg.Mesh)
		c.mesh.workloads = c.main
	}
	c.workloads = workload.NewKinds(c.main.Client(), c.main, cfg.Workload)
	var err error
	indexers := toolscache.Indexers{byTurn: cache.IndexBy(turnsOf), byDependency: cache.IndexBy(dependenciesOf)}
	if c.canaries, err = cache.NewCanaries(c.main.Cluster, indexers, waiting, c.onCanary); err != nil {
		return nil, err
	}
	c.crew = c.newCrew()
	c.workers = workqueue.NewWorkers(c.queue, cfg.Workers)
	return c, nil
}

// Watch fills the caches and keeps them up to date until ctx ends. It returns when it is done. It writes nothing, so every
// process may do it.
func (c *Controller) Watch(ctx context.Context) {
	var wait sync.WaitGroup
	c.main.Start(ctx, &wait)
	if c.mesh != c.main {
		c.mesh.Start(ctx, &wait)
	}
	for _, ref := range c.baseResources() {
		c.main.Ensure(ref.Resource, "")
	}
	wait.Go(func() { c.canaries.Run(ctx) })
	<-ctx.Done()
	c.main.Stop()
	c.mesh.Stop()
	wait.Wait()
}

// Synced is whether the caches that every Canary needs are filled.
func (c *Controller) Synced() bool { return c.Ready() == nil }

// Ready returns nil when the caches that every Canary needs are filled, and what they wait for when not.
func (c *Controller) Ready() error {
	if !c.canaries.HasSynced() {
		return errors.New("the list of canaries.flagger.app is not read yet")
	}
	for _, ref := range c.baseResources() {
		if err := c.main.Ready(ref.Resource); err != nil {
			return err
		}
	}
	return nil
}

// baseResources are those that are watched whatever the provider.
func (c *Controller) baseResources() []router.Ref {
	services := router.Ref{Resource: schema.GroupVersionResource{Version: "v1", Resource: "services"}, Kind: "Service"}
	return append(c.workloads.Resources(), services)
}

// Run acts on the Canaries until ctx ends. It needs Watch to run. All calls in flight are canceled and have come back when
// it returns. Clients should let writes that were begun be answered.
func (c *Controller) Run(ctx context.Context) error {
	// A process that becomes the leader late has been watching for long: all Canaries are due.
	if !toolscache.WaitForCacheSync(ctx.Done(), c.Synced) {
		return nil
	}
	c.act(ctx, c.canaries.Keys())
	return nil
}

// process runs a pass and decides when the next one is due.
func (c *Controller) process(ctx context.Context, key string) {
	log := c.logger(key)
	var wake time.Time
	err := workqueue.Guard(func() (err error) {
		wake, err = c.pass(ctx, key)
		return err
	})
	var panicked *workqueue.PanicError
	switch {
	case ctx.Err() != nil:
		log.Debug("stopped", zap.Error(err))
	case err == nil, errors.Is(err, errAsleep):
		c.queue.Succeeded(key, wake)
	case errors.Is(err, errMoved):
		c.queue.Add(key)
	case isConflict(err):
		log.Debug("repeating a pass that met another writer", zap.Error(err), zap.Duration("pause", c.queue.Conflicted(key)))
	case errors.As(err, &panicked):
		c.reportPanic(ctx, key, panicked)
		log.Error("panic in a pass", zap.Any("panic", panicked.Value), zap.ByteString("stack", panicked.Stack), zap.Duration("pause", c.queue.Failed(key)))
	default:
		log.Error("pass failed", zap.Error(err), zap.Duration("pause", c.queue.Failed(key)))
	}
	if c.queue.Failing(key) {
		// It does not hold up those behind it.
		c.limit.wakeNext(c.Clock.Now())
	}
	if c.passed != nil {
		c.passed(key)
	}
}

// errMoved ends a pass whose turn somebody else took meanwhile. errAsleep ends one that is woken when the caches are filled.
var (
	errMoved  = errors.New("another rollout has begun in its place")
	errAsleep = errors.New("waiting for the caches")
)

// isConflict is whether an error only says that our picture of the cluster was old, or that of who acts in it.
func isConflict(err error) bool {
	var closed fence.ClosedError
	return errors.As(err, &closed) || router.IsStale(err) || apierrors.IsConflict(err) || errors.Is(err, workload.ErrMoved)
}

// isRefused is whether a write did not come about. Other errors, of servers and of connections, leave that open.
func isRefused(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Code >= 400 && status.Status().Code < 500
}

func (c *Controller) logger(key string) *zap.Logger {
	namespace, name := keyParts(key)
	// Most passes log nothing.
	return c.Log.WithLazy(zap.String("canary", name+"."+namespace))
}

// memoryOf returns what is remembered of a Canary. A Canary that was deleted and made again is another one.
func (c *Controller) memoryOf(key string, canary *v1beta1.Canary) *memory {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok := c.known[key]
	if !ok || m.canary.UID != canary.UID {
		m = &memory{contentions: contentions{}, done: map[router.Ref]done{}}
		c.known[key] = m
	}
	m.canary, m.written = canary, nil
	return m
}

// lastSeen is a Canary as the last pass has seen it, nil before the first.
func (c *crew) lastSeen(key string) *v1beta1.Canary {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m, ok := c.known[key]; ok {
		return m.canary
	}
	return nil
}

// lastWritten is a Canary as the last pass has left it, nil if that is not known. It is for the next pass, which alone may ask.
func (c *crew) lastWritten(key string) *v1beta1.Canary {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m, ok := c.known[key]; ok {
		return m.written
	}
	return nil
}

// forget drops everything about a Canary that is gone.
func (c *Controller) forget(key string) {
	c.mu.Lock()
	m := c.known[key]
	delete(c.known, key)
	c.mu.Unlock()
	c.queue.Drop(key)
	c.inquiries.Forget(key)
	c.index.Forget(key)
	c.publisher.Forget(key)
	c.limit.forget(key, c.Clock.Now())
	if m != nil {
		c.workloads.Forget(m.canary.UID)
		c.Telemetry.Forget(m.canary.Namespace, m.canary.Name)
		c.Tracer.Forget(m.canary.Namespace, m.canary.Name)
	}
}

// until is the earlier of two times, of which zero means never.
func until(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// named is an error about a Canary.
func named(c *v1beta1.Canary, err error) error {
	return fmt.Errorf("canary %s/%s: %w", c.Namespace, c.Name, err)
}
