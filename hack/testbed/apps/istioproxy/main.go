// Command istioproxy stands for Istio's image istio/proxyv2 in a testbed: it
// starts an Envoy that takes its configuration from istiod, tells whether it
// is ready, exports Istio's standard metrics, and drains it at the end. It
// takes the arguments that Istio's manifests give to that image:
//
//	istioproxy proxy sidecar|router     as a sidecar or as a gateway
//	istioproxy istio-iptables -b '*' …  as the init container of a sidecar
//
// Two things differ from Istio's own image, because both are compiled into
// Istio's build of Envoy and into no other:
//
//   - There are no workload certificates. Envoy talks to istiod in plain text on
//     port 15010, which istiod offers for that, and the mesh has mutual TLS off.
//   - The series istio_requests_total and istio_request_duration_milliseconds
//     do not come from the filter istio.stats but from Envoy's access log, whose
//     entries this program counts under the labels that Istio documents.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/utils/clock"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "istioproxy:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("say proxy or istio-iptables")
	}
	switch args[0] {
	case "proxy":
		return proxy(args[1:])
	case "istio-iptables":
		return redirect(args[1:])
	}
	return fmt.Errorf("unknown command %q; say proxy or istio-iptables", args[0])
}

// Ports of every proxy, as Istio assigns them.
const (
	adminAddress  = "127.0.0.1:15000"
	healthAddress = ":15021"
	statsAddress  = ":15090"
	agentAddress  = ":15020"
)

// metricsPath is where Istio's proxies export metrics.
const metricsPath = "/stats/prometheus"

// program is where Istio's image has Envoy.
const program = "/usr/local/bin/envoy"

// drain is how long a proxy goes on serving after SIGTERM: Istio's default.
const drain = 5 * time.Second

func proxy(args []string) error {
	if len(args) == 0 {
		return errors.New("say proxy sidecar or proxy router")
	}
	flags := flag.NewFlagSet("proxy", flag.ContinueOnError)
	domain := flags.String("domain", os.Getenv("POD_NAMESPACE")+".svc.cluster.local", "DNS domain of the pod")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	self, err := readWorkload(role(args[0]), *domain, os.Getenv)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	appProbes, err := probes(self.ip)
	if err != nil {
		return err
	}
	series := newSeries(self)
	all, err := merged(series.handler())
	if err != nil {
		return err
	}
	e := &envoy{path: program, clock: clock.RealClock{}, line: series.observe, gateway: self.role == router}
	if err := e.start(self); err != nil {
		return err
	}
	failed := make(chan error, 4)
	serve := func(address string, handlers map[string]http.Handler) {
		mux := http.NewServeMux()
		for path, handler := range handlers {
			mux.Handle(path, handler)
		}
		server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: time.Minute}
		failed <- fmt.Errorf("serve %s: %w", address, server.ListenAndServe())
	}
	go serve(healthAddress, map[string]http.Handler{"/healthz/ready": http.HandlerFunc(ready)})
	go serve(statsAddress, map[string]http.Handler{metricsPath: series.handler()})
	go serve(agentAddress, map[string]http.Handler{metricsPath: all, "/app-health/": appProbes})
	go func() { failed <- e.wait() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	return e.end(failed)
}

// ready answers 200 when Envoy has got listeners and clusters from istiod.
func ready(w http.ResponseWriter, r *http.Request) {
	answer(w, r, http.DefaultClient, "http://"+adminAddress+"/ready")
}
