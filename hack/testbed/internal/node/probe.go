package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/clock"
)

// eagerPeriod is how often a readiness or startup probe is repeated until it
// succeeds for the first time. Failures mean nothing before that, so that a
// pod is seen ready soon although its period is long.
const eagerPeriod = 200 * time.Millisecond

// probeTally counts results in a row.
type probeTally struct {
	success, failure int32 // thresholds
	ok               bool  // result the current run is of
	run              int32
}

func newProbeTally(p *corev1.Probe) *probeTally {
	return &probeTally{success: max(1, p.SuccessThreshold), failure: orDefault(p.FailureThreshold, 3)}
}

// add counts a result and says whether it is now established.
func (t *probeTally) add(ok bool) (established bool) {
	if ok != t.ok || t.run == 0 {
		t.ok, t.run = ok, 0
	}
	t.run++
	if ok {
		return t.run >= t.success
	}
	return t.run >= t.failure
}

// watchProbe repeats the probe until ctx ends or report returns false. report
// gets each result that the thresholds have established. An eager probe is
// tried more often until its first success, but its failures count only once
// per period, so that failureThreshold lasts as long as it should.
func watchProbe(ctx context.Context, clk clock.Clock, p *corev1.Probe, eager bool, check func(context.Context) error, report func(err error) bool) {
	tally := newProbeTally(p)
	period := time.Duration(orDefault(p.PeriodSeconds, 10)) * time.Second
	timeout := time.Duration(orDefault(p.TimeoutSeconds, 1)) * time.Second
	wait := time.Duration(p.InitialDelaySeconds) * time.Second
	failuresCount := clk.Now().Add(wait)
	for sleep(ctx, clk, wait) {
		err := runCheck(ctx, timeout, check)
		if ctx.Err() != nil {
			return
		}
		eager = eager && err != nil
		wait = period
		if eager {
			wait = min(period, eagerPeriod)
		}
		now := clk.Now()
		if err != nil && now.Before(failuresCount) {
			continue
		}
		failuresCount = now.Add(period)
		if tally.add(err == nil) && !report(err) {
			return
		}
	}
}

func runCheck(ctx context.Context, timeout time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return check(ctx)
}

// sleep waits and says whether ctx is still alive.
func sleep(ctx context.Context, clk clock.Clock, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := clk.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-ctx.Done():
		return false
	}
}

// probeCheck is what one try of the probe does.
func probeCheck(handler corev1.ProbeHandler, podIP string, c *corev1.Container, run execFunc) (func(context.Context) error, error) {
	switch {
	case handler.HTTPGet != nil:
		return httpCheck(handler.HTTPGet, podIP, c)
	case handler.TCPSocket != nil:
		port, err := portNumber(handler.TCPSocket.Port, c)
		address := net.JoinHostPort(orDefault(handler.TCPSocket.Host, podIP), strconv.Itoa(port))
		return func(ctx context.Context) error { return tcpCheck(ctx, address) }, err
	case handler.GRPC != nil:
		address := net.JoinHostPort(podIP, strconv.Itoa(int(handler.GRPC.Port)))
		service := ""
		if handler.GRPC.Service != nil {
			service = *handler.GRPC.Service
		}
		return func(ctx context.Context) error { return grpcCheck(ctx, address, service) }, nil
	case handler.Exec != nil:
		command := handler.Exec.Command
		return func(ctx context.Context) error { return execCheck(ctx, command, run) }, nil
	}
	return nil, errors.New("the probe has no handler (httpGet, tcpSocket, grpc, exec)")
}

// execFunc runs a command in a container; its output is returned with it.
type execFunc func(ctx context.Context, command []string) (code int, output []byte, err error)

func execCheck(ctx context.Context, command []string, run execFunc) error {
	code, output, err := run(ctx, command)
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("command exited with %d: %s", code, output)
	}
	return nil
}

func tcpCheck(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

func grpcCheck(ctx context.Context, address, service string) error {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("gRPC client of %s: %w", address, err)
	}
	defer conn.Close()
	answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		return err
	}
	if answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("gRPC health is %s", answer.GetStatus())
	}
	return nil
}

func httpCheck(action *corev1.HTTPGetAction, podIP string, c *corev1.Container) (func(context.Context) error, error) {
	port, err := portNumber(action.Port, c)
	if err != nil {
		return nil, err
	}
	target, err := url.Parse(action.Path)
	if err != nil {
		return nil, fmt.Errorf("httpGet.path: %w", err)
	}
	target.Scheme = "http"
	if action.Scheme == corev1.URISchemeHTTPS {
		target.Scheme = "https"
	}
	target.Host = net.JoinHostPort(orDefault(action.Host, podIP), strconv.Itoa(port))
	if target.Path == "" {
		target.Path = "/"
	}
	// Each probe is a connection of its own, and certificates are not looked
	// at, both as with kubelet.
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	return func(ctx context.Context) error { return get(ctx, client, target.String(), action.HTTPHeaders) }, nil
}

func get(ctx context.Context, client *http.Client, url string, headers []corev1.HTTPHeader) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "kube-probe/testbed")
	for _, header := range headers {
		if http.CanonicalHeaderKey(header.Name) == "Host" {
			req.Host = header.Value
		}
		req.Header.Set(header.Name, header.Value)
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.CopyN(io.Discard, res.Body, 10<<10); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if res.StatusCode < 200 || res.StatusCode >= 400 {
		return fmt.Errorf("HTTP probe failed with statuscode: %d", res.StatusCode)
	}
	return nil
}

// portNumber resolves the name of a port of the container.
func portNumber(port intstr.IntOrString, c *corev1.Container) (int, error) {
	if port.Type == intstr.Int {
		return port.IntValue(), nil
	}
	for _, p := range c.Ports {
		if p.Name == port.StrVal {
			return int(p.ContainerPort), nil
		}
	}
	if number, err := strconv.Atoi(port.StrVal); err == nil {
		return number, nil
	}
	return 0, fmt.Errorf("port %q is no port of container %s", port.StrVal, c.Name)
}
