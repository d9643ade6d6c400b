package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel"
	"go.uber.org/zap"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	listers "flagger.app/flagger/pkg/client/listers/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller"
	"flagger.app/flagger/pkg/controller/sharding"
	"flagger.app/flagger/pkg/hook"
	"flagger.app/flagger/pkg/metrics"
	"flagger.app/flagger/pkg/notify"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router/registry"
	"flagger.app/flagger/pkg/server"
	"flagger.app/flagger/pkg/telemetry"
	"flagger.app/flagger/pkg/tracing"
	"flagger.app/flagger/pkg/version"
	"flagger.app/flagger/pkg/workload"
)

// lastTraces is how long the process waits at its end for a collector of traces. Kubernetes gives it 30 seconds for everything.
const lastTraces = 5 * time.Second

// passesOfThread is how many passes there are for each of -threadiness. A pass waits for the API server most of the time.
const passesOfThread = 16

// operator is everything that runs.
type operator struct {
	options    *options
	clients    *clients
	log        *zap.Logger
	recorder   *telemetry.Recorder
	tracer     *tracing.Tracer
	evaluator  *metrics.Evaluator
	controller *controller.Controller
	// templates and alertProviders are the caches of what Canaries refer to.
	templates, alertProviders cache.SharedIndexInformer
}

// run is the life of the operator. It returns nil when ctx ends, and an error when it can't go on.
func run(ctx context.Context, o *options, log *zap.Logger) error {
	log.Info("starting flagger", zap.String("version", version.Version), zap.String("revision", version.Revision),
		zap.String("mesh-provider", o.meshProvider), zap.String("namespace", o.namespace))
	recorder := telemetry.New(version.Version, o.meshProvider)
	c, err := connect(o, recorder)
	if err != nil {
		return err
	}
	providers := registry.New(registry.Config{
		IngressClass: o.ingressClass, AnnotationsPrefix: o.ingressAnnotationsPrefix,
		IncludeLabelPrefix: list(o.includeLabelPrefix), Unowned: c.separateMesh,
	})
	if _, err := providers.Provider(o.meshProvider); err != nil {
		return fmt.Errorf("flag -mesh-provider: %w", err)
	}
	if err := controller.CheckServer(ctx, c.kube, c.main.Dynamic, o.namespace); err != nil {
		return err
	}
	tracer, err := tracing.FromEnvironment(ctx, os.LookupEnv, version.Version, clock.RealClock{})
	if err != nil {
		return err
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Error("traces are not sent", zap.Error(err)) }))
	defer stopTracing(tracer, log)
	warnOfChat(o, log)
	op, err := newOperator(o, c, log, recorder, tracer, providers)
	if err != nil {
		return err
	}
	return op.run(ctx)
}

// stopTracing sends the spans that wait to be sent.
func stopTracing(tracer *tracing.Tracer, log *zap.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), lastTraces)
	defer cancel()
	if err := tracer.Shutdown(ctx); err != nil {
		log.Error("traces are lost", zap.Error(err))
	}
}

func newOperator(o *options, c *clients, log *zap.Logger, recorder *telemetry.Recorder, tracer *tracing.Tracer, providers controller.Providers) (*operator, error) {
	op := &operator{
		options:  o,
		clients:  c,
		log:      log,
		recorder: recorder,
		tracer:   tracer,
	}
	op.templates = informer(c.flagger, "metrictemplates", o.namespace, &v1beta1.MetricTemplate{})
	op.alertProviders = informer(c.flagger, "alertproviders", o.namespace, &v1beta1.AlertProvider{})
	metricsServer, err := o.metrics.server()
	if err != nil {
		return nil, err
	}
	op.evaluator = &metrics.Evaluator{
		Server:       metricsServer,
		FlagProvider: o.meshProvider,
		Asked: func(c *v1beta1.Canary, backend string, err error, took time.Duration) {
			recorder.Query(c, backend, err, took)
			tracer.Query(c, backend, err, took)
		},
		NoCrossNamespaceRefs: o.noCrossNamespaceRefs,
		MinInterval:          o.minAnalysisInterval,
		PerServer:            o.metrics.atOnce,
		Limit:                o.metrics.queryTimeout,
		Templates:            templates{listers.NewMetricTemplateLister(op.templates.GetIndexer())},
		Secrets:              secrets{c.kube},
		Knative:              knativeServices{c.main.Dynamic},
		Registry:             metrics.NewRegistry(clock.RealClock{}, metrics.Cluster{Config: c.config, Dynamic: c.main.Dynamic}),
	}
	cfg := config(o, c, log, providers, op.recorder, tracer, op.evaluator, op.notifier())
	if cfg.Schedule, err = o.schedule.schedule(); err != nil {
		return nil, err
	}
	op.controller, err = controller.New(cfg)
	return op, err
}

// run watches, serves and leads until ctx ends or one of them fails.
func (op *operator) run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	var wait sync.WaitGroup
	wait.Go(func() { op.templates.RunWithContext(ctx) })
	wait.Go(func() { op.alertProviders.RunWithContext(ctx) })
	wait.Go(func() { op.controller.Watch(ctx) })
	wait.Go(func() { checkMetricsServer(ctx, op.evaluator, op.log) })
	wait.Go(func() { newHeapReturner(clock.RealClock{}).run(ctx, os.LookupEnv) })
	wait.Go(func() {
		err := server.ListenAndServe(ctx, ":"+op.options.port, server.Options{Metrics: op.recorder.Handler(), Ready: op.ready})
		if err != nil {
			stop(err)
		}
	})
	if address := op.options.pprofAddress; address != "" {
		wait.Go(func() {
			if err := listenForProfiles(ctx, address); err != nil {
				stop(err)
			}
		})
	}
	var err error
	if cache.WaitForCacheSync(ctx.Done(), op.templates.HasSynced, op.alertProviders.HasSynced) {
		err = op.lead(ctx)
	}
	stop(err)
	wait.Wait()
	if err == nil && !errors.Is(context.Cause(ctx), context.Canceled) {
		err = context.Cause(ctx)
	}
	return err
}

// config puts the controller together.
func config(o *options, c *clients, log *zap.Logger, providers controller.Providers, recorder *telemetry.Recorder, tracer *tracing.Tracer, evaluator *metrics.Evaluator, notifier notify.Notifier) controller.Config {
	hooks := hook.NewCaller(clock.RealClock{})
	hooks.Events = hook.Format(o.eventFormat)
	return controller.Config{
		Main:                 c.main,
		Mesh:                 c.mesh,
		Kube:                 c.kube,
		Providers:            providers,
		Metrics:              evaluator,
		Hooks:                hooks,
		Notifier:             notifier,
		Telemetry:            recorder,
		Tracer:               tracer,
		Clock:                clock.RealClock{},
		Log:                  log,
		Namespace:            o.namespace,
		DefaultProvider:      o.meshProvider,
		EventWebhook:         o.eventWebhook,
		NoCrossNamespaceRefs: o.noCrossNamespaceRefs,
		Workers:              o.threadiness * passesOfThread,
		Shards:               o.election.shards,
		Workload: workload.Options{
			SelectorLabels:     list(o.selectorLabels),
			IncludeLabelPrefix: list(o.includeLabelPrefix),
			TrackConfigs:       o.configTracking,
		},
		Settings: rollout.Settings{
			MinInterval:      o.minAnalysisInterval,
			PropagationDelay: o.propagationDelay,
			RevertOnDeletion: o.revertOnDeletion,
			Readiness:        o.readiness,
			ClusterName:      o.clusterName,
			MaxRollouts:      o.maxRollouts,

			MaxRolloutsPerNamespace: o.maxRolloutsPerNamespace,
		},
	}
}

// lead acts, at once or for as long as this process has the lease.
func (op *operator) lead(ctx context.Context) error {
	election := op.options.election
	if election.shards > 0 {
		return op.share(ctx)
	}
	if !election.enabled {
		op.recorder.Leads(controller.LeaseName, true)
		return op.controller.Run(ctx)
	}
	op.recorder.Leads(controller.LeaseName, false)
	id, err := identity()
	if err != nil {
		return err
	}
	lease := controller.Lease{
		Client:        op.clients.lease,
		Namespace:     cmp.Or(op.options.namespace, election.namespace),
		Identity:      id,
		Duration:      election.leaseDuration,
		RenewDeadline: election.renewDeadline,
		RetryPeriod:   election.period,
		Clock:         clock.RealClock{},
		Failed:        func(err error) { op.log.Error("leader election", zap.Error(err)) },
	}
	return lease.Hold(ctx, func(ctx context.Context) error {
		op.log.Info("acting as elected leader", zap.String("identity", lease.Identity))
		op.recorder.Leads(controller.LeaseName, true)
		defer op.recorder.Leads(controller.LeaseName, false)
		return op.controller.Run(ctx)
	})
}

// identity is that of this process among its replicas.
func identity() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("identity for the leader election: %w", err)
	}
	return host + "_" + uuid.NewString(), nil
}

// share acts on the shards of this process.
func (op *operator) share(ctx context.Context) error {
	election := op.options.election
	op.recorder.Leads(controller.LeaseName, false)
	id, err := identity()
	if err != nil {
		return err
	}
	group := sharding.Group{
		Client:        op.clients.lease,
		Namespace:     cmp.Or(op.options.namespace, election.namespace),
		Name:          controller.LeaseName,
		Identity:      id,
		Shards:        election.shards,
		Duration:      election.leaseDuration,
		RenewDeadline: election.renewDeadline,
		RetryPeriod:   election.period,
		Clock:         clock.RealClock{},
		Log:           op.log,
		Held: func(n int) {
			op.log.Info("shards held", zap.String("identity", id), zap.Int("held", n), zap.Int("shards", election.shards))
			op.recorder.Leads(controller.LeaseName, n > 0)
		},
	}
	return group.Hold(ctx, op.controller.RunShard)
}

// ready is whether the caches are filled. A process that waits for the lease is ready, too.
func (op *operator) ready() error {
	for name, list := range map[string]cache.SharedIndexInformer{"metrictemplates": op.templates, "alertproviders": op.alertProviders} {
		if !list.HasSynced() {
			return fmt.Errorf("the list of %s.flagger.app is not read yet", name)
		}
	}
	return op.controller.Ready()
}

// checkMetricsServer tells early about a wrong -metrics-server. It stops nothing: Canaries may use another one.
func checkMetricsServer(ctx context.Context, e *metrics.Evaluator, log *zap.Logger) {
	if err := e.CheckServer(ctx); err != nil {
		log.Sugar().Errorf("Metrics server %s unreachable %v", metrics.Redacted(e.Server.Address), err)
		return
	}
	log.Sugar().Infof("Connected to metrics server %s", metrics.Redacted(e.Server.Address))
}
