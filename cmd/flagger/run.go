package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/go-logr/zapr"
	"github.com/google/uuid"
	"go.uber.org/zap"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/client/informers/externalversions"
	"flagger.app/flagger/pkg/controller"
	"flagger.app/flagger/pkg/hook"
	"flagger.app/flagger/pkg/metrics"
	"flagger.app/flagger/pkg/metrics/prometheus"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/notify"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router/registry"
	"flagger.app/flagger/pkg/server"
	"flagger.app/flagger/pkg/telemetry"
	"flagger.app/flagger/pkg/version"
	"flagger.app/flagger/pkg/workload"
)

// run is the life of the operator. It returns nil when ctx ends, and an error when it can't go on.
func run(ctx context.Context, o *options, log *zap.Logger) error {
	log.Info("starting flagger", zap.String("version", version.Version), zap.String("revision", version.Revision),
		zap.String("mesh-provider", o.meshProvider), zap.String("namespace", o.namespace))
	c, err := connect(o)
	if err != nil {
		return err
	}
	providers := registry.New(registry.Config{IngressClass: o.ingressClass, Unowned: c.separateMesh})
	if _, err := providers.Provider(o.meshProvider); err != nil {
		return fmt.Errorf("flag -mesh-provider: %w", err)
	}
	if err := controller.CheckServer(ctx, c.kube.Discovery(), c.main.Dynamic, o.namespace); err != nil {
		return err
	}
	factory := externalversions.NewSharedInformerFactoryWithOptions(c.flagger, 0, externalversions.WithNamespace(o.namespace))
	templateInformer := factory.Flagger().V1beta1().MetricTemplates()
	templatesSynced := templateInformer.Informer().HasSynced
	recorder := telemetry.New(version.Version, o.meshProvider)
	evaluator := &metrics.Evaluator{
		DefaultAddress:       o.metricsServer,
		FlagProvider:         o.meshProvider,
		NoCrossNamespaceRefs: o.noCrossNamespaceRefs,
		Templates:            templates{templateInformer.Lister()},
		Secrets:              secrets{c.kube},
		Registry:             metrics.NewRegistry(),
	}
	ctl, err := controller.New(config(o, c, log, providers, recorder, evaluator))
	if err != nil {
		return err
	}

	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wait sync.WaitGroup
	defer wait.Wait()
	defer stop(nil)
	wait.Go(func() { checkMetricsServer(ctx, o, log) })
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	wait.Go(func() { ctl.Watch(ctx) })
	wait.Go(func() {
		ready := func() error { return readiness(ctl, templatesSynced) }
		if err := server.ListenAndServe(ctx, ":"+o.port, server.Options{Metrics: recorder.Handler(), Ready: ready}); err != nil {
			stop(err)
		}
	})
	if cache.WaitForCacheSync(ctx.Done(), templatesSynced) {
		err = lead(ctx, o, c, log, ctl)
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// config puts the controller together.
func config(o *options, c *clients, log *zap.Logger, providers controller.Providers, recorder *telemetry.Recorder, evaluator *metrics.Evaluator) controller.Config {
	return controller.Config{
		Main:                 c.main,
		Mesh:                 c.mesh,
		Kube:                 c.kube,
		Providers:            providers,
		Metrics:              evaluator,
		Hooks:                hook.NewCaller(clock.RealClock{}),
		Notifier:             notify.Log{Logger: zapr.NewLogger(log).WithName("alert")},
		Telemetry:            recorder,
		Clock:                clock.RealClock{},
		Log:                  log,
		Namespace:            o.namespace,
		DefaultProvider:      o.meshProvider,
		EventWebhook:         o.eventWebhook,
		NoCrossNamespaceRefs: o.noCrossNamespaceRefs,
		Workers:              o.threadiness,
		Workload: workload.Options{
			SelectorLabels:     list(o.selectorLabels),
			IncludeLabelPrefix: list(o.includeLabelPrefix),
		},
		Settings: rollout.Settings{
			MinInterval:      o.minAnalysisInterval,
			PropagationDelay: o.propagationDelay,
			ClusterName:      o.clusterName,
		},
	}
}

// lead acts, at once or for as long as this process has the lease.
func lead(ctx context.Context, o *options, c *clients, log *zap.Logger, ctl *controller.Controller) error {
	if !o.election.enabled {
		return ctl.Run(ctx)
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("identity for the leader election: %w", err)
	}
	namespace := o.election.namespace
	if o.namespace != "" {
		namespace = o.namespace
	}
	lease := controller.Lease{
		Client:        c.lease.CoordinationV1(),
		Namespace:     namespace,
		Identity:      host + "_" + uuid.NewString(),
		Duration:      o.election.leaseDuration,
		RenewDeadline: o.election.renewDeadline,
		RetryPeriod:   o.election.period,
	}
	return lease.Hold(ctx, func(ctx context.Context) error {
		log.Info("acting as elected leader", zap.String("identity", lease.Identity))
		return ctl.Run(ctx)
	})
}

func readiness(ctl *controller.Controller, others ...cache.InformerSynced) error {
	for _, synced := range others {
		if !synced() {
			return errors.New("caches of MetricTemplates are not filled")
		}
	}
	if !ctl.Synced() {
		return errors.New("caches are not filled")
	}
	return nil
}

// checkMetricsServer tells early about a wrong -metrics-server. It stops nothing: Canaries may use another one.
func checkMetricsServer(ctx context.Context, o *options, log *zap.Logger) {
	p, err := metrics.NewRegistry().New(provider.Config{
		Spec: v1beta1.MetricTemplateProvider{Type: prometheus.Type, Address: o.metricsServer},
	})
	if err == nil {
		err = p.Online(ctx)
	}
	if err != nil {
		log.Sugar().Errorf("Metrics server %s unreachable %v", o.metricsServer, err)
		return
	}
	log.Sugar().Infof("Connected to metrics server %s", o.metricsServer)
}
