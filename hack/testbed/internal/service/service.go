// Package service makes the cluster IPs of Services work: a TCP forwarder
// listens on each of their ports. Every address of the service range has to be
// local in the network namespace it runs in.
package service

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	corev1listers "k8s.io/client-go/listers/core/v1"
	discoveryv1listers "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

// bindRetry is the pause before an address is tried again that something else
// is listening on.
const bindRetry = time.Second

// Run serves the Services that a factory knows until ctx ends. It starts the factory. log may be nil.
func Run(ctx context.Context, factory informers.SharedInformerFactory, log *slog.Logger) error {
	if log == nil {
		log = slog.Default()
	}
	p := &proxy{
		clock: clock.RealClock{}, log: log,
		services: factory.Core().V1().Services().Lister(), slices: factory.Discovery().V1().EndpointSlices().Lister(),
		forwarders: map[portKey]*forwarder{}, blocked: map[portKey]bool{},
	}
	dirty := make(chan struct{}, 1)
	mark := func() {
		select {
		case dirty <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { mark() }, UpdateFunc: func(any, any) { mark() }, DeleteFunc: func(any) { mark() },
	}
	for _, informer := range []cache.SharedIndexInformer{
		factory.Core().V1().Services().Informer(), factory.Discovery().V1().EndpointSlices().Informer(),
	} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return fmt.Errorf("watch Services: %w", err)
		}
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("watch %s: the cache did not fill", kind)
		}
	}
	mark()
	return p.loop(ctx, dirty)
}

// proxy keeps the forwarders as the Services want them. Only its loop touches
// it, so that an address is always given up before it is taken again.
type proxy struct {
	clock      clock.Clock
	log        *slog.Logger
	services   corev1listers.ServiceLister
	slices     discoveryv1listers.EndpointSliceLister
	forwarders map[portKey]*forwarder
	// blocked are addresses that could not be bound, reported once.
	blocked map[portKey]bool
}

func (p *proxy) loop(ctx context.Context, dirty <-chan struct{}) error {
	defer func() {
		for _, f := range p.forwarders {
			f.close()
		}
	}()
	for {
		var retry <-chan time.Time
		if len(p.blocked) > 0 {
			retry = p.clock.After(bindRetry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-dirty:
		case <-retry:
		}
		if err := p.sync(); err != nil {
			return err
		}
	}
}

// sync makes the forwarders match the Services. Listing everything is cheap
// at the size of a testbed and cannot miss anything.
func (p *proxy) sync() error {
	wanted, err := p.wanted()
	if err != nil {
		return err
	}
	for key, f := range p.forwarders {
		if _, ok := wanted[key]; !ok {
			f.close()
			delete(p.forwarders, key)
		}
	}
	maps.DeleteFunc(p.blocked, func(key portKey, _ bool) bool {
		_, ok := wanted[key]
		return !ok
	})
	for key, target := range wanted {
		if f := p.forwarders[key]; f != nil {
			f.setTarget(target)
			continue
		}
		f, err := listen(key, target, p.clock, p.log)
		if err != nil {
			if !p.blocked[key] {
				p.log.Warn("Service port cannot be served yet; is a program of the node listening on it?", "err", err)
			}
			p.blocked[key] = true
			continue
		}
		delete(p.blocked, key)
		p.forwarders[key] = f
	}
	return nil
}

func (p *proxy) wanted() (map[portKey]servicePort, error) {
	services, err := p.services.List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("list Services: %w", err)
	}
	all, err := p.slices.List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("list EndpointSlices: %w", err)
	}
	byService := map[string][]*discoveryv1.EndpointSlice{}
	for _, slice := range all {
		key := slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName]
		byService[key] = append(byService[key], slice)
	}
	out := map[portKey]servicePort{}
	for _, svc := range services {
		maps.Copy(out, servicePorts(svc, byService[svc.Namespace+"/"+svc.Name]))
	}
	return out, nil
}
