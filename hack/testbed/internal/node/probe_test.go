package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	clocktesting "k8s.io/utils/clock/testing"
)

// probeTrace runs a probe in virtual time whose tries give the results in
// turn, and writes down when each was made and what was reported.
func probeTrace(t *testing.T, p *corev1.Probe, eager bool, results string) []string {
	t.Helper()
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	clk := clocktesting.NewFakeClock(begin)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var trace []string
	tried := make(chan struct{})
	try := 0
	check := func(context.Context) error {
		trace = append(trace, fmt.Sprintf("%s %c", clk.Since(begin), results[try]))
		try++
		if results[try-1] == '+' {
			return nil
		}
		return errors.New("no")
	}
	go func() {
		defer close(tried)
		watchProbe(ctx, clk, p, eager, check, func(err error) bool {
			trace[len(trace)-1] += map[bool]string{true: " ok", false: " failed"}[err == nil]
			if try == len(results) {
				cancel()
			}
			return true
		})
	}()
	for {
		select {
		case <-tried:
			return trace
		default:
			if clk.HasWaiters() {
				clk.Step(100 * time.Millisecond)
			}
		}
	}
}

func TestWatchProbe(t *testing.T) {
	for _, row := range []struct {
		name    string
		probe   corev1.Probe
		eager   bool
		results string
		want    []string
	}{
		{
			"liveness at its pace", corev1.Probe{PeriodSeconds: 2, FailureThreshold: 2, InitialDelaySeconds: 1}, false, "+-+--",
			[]string{"1s + ok", "3s -", "5s + ok", "7s -", "9s - failed"},
		},
		{
			"readiness tried eagerly until it is there", corev1.Probe{PeriodSeconds: 10, FailureThreshold: 3}, true, "--+---",
			[]string{"0s -", "200ms -", "400ms + ok", "10.4s -", "20.4s -", "30.4s - failed"},
		},
		{
			"eager failures count once per period", corev1.Probe{PeriodSeconds: 1, FailureThreshold: 2}, true, "------",
			[]string{"0s -", "200ms -", "400ms -", "600ms -", "800ms -", "1s - failed"},
		},
		{
			"success threshold", corev1.Probe{PeriodSeconds: 1, SuccessThreshold: 2, FailureThreshold: 1}, false, "+-++",
			[]string{"0s +", "1s - failed", "2s +", "3s + ok"},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, probeTrace(t, &row.probe, row.eager, row.results)); diff != "" {
				t.Errorf("tries (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHTTPCheck(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Host == "app.example.com" && r.Header.Get("X-Probe") == "yes" && r.URL.RawQuery == "full=1":
			w.WriteHeader(http.StatusNoContent)
		case r.URL.Path == "/moved":
			w.WriteHeader(http.StatusNotModified)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	host, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	number, _ := strconv.Atoi(port)
	c := &corev1.Container{Name: "app", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: int32(number)}}}
	for _, row := range []struct {
		action corev1.HTTPGetAction
		want   string
	}{
		{corev1.HTTPGetAction{Path: "/ready?full=1", HTTPHeaders: []corev1.HTTPHeader{{Name: "Host", Value: "app.example.com"}, {Name: "X-Probe", Value: "yes"}}}, ""},
		{corev1.HTTPGetAction{Path: "/moved"}, ""},
		{corev1.HTTPGetAction{}, "503"},
		{corev1.HTTPGetAction{Scheme: corev1.URISchemeHTTPS}, "HTTP"},
	} {
		row.action.Port = intstr.FromString("http")
		check, err := probeCheck(corev1.ProbeHandler{HTTPGet: &row.action}, host, c, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = check(t.Context())
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%+v: error %v, want %q", row.action, err, row.want)
		}
	}
	if _, err := probeCheck(corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("none")}}, host, c, nil); err == nil {
		t.Error("a port that does not exist is no error")
	}
}
