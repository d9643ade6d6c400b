package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"flagger.app/flagger/pkg/metrics"
	"flagger.app/flagger/pkg/telemetry"
)

var update = flag.Bool("update", false, "write docs/flags.md")

func noEnvironment(string) (string, bool) { return "", false }

func TestDefaults(t *testing.T) {
	o, err := parse(nil, noEnvironment, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string][2]any{
		"metrics-server":                 {o.metrics.address, "http://prometheus:9090"},
		"mesh-provider":                  {o.meshProvider, "istio"},
		"port":                           {o.port, "8080"},
		"threadiness":                    {o.threadiness, 2},
		"kubeconfig-qps":                 {o.qps, 0},
		"kubeconfig-burst":               {o.burst, 0},
		"kubeconfig-timeout":             {o.timeout, time.Minute},
		"control-loop-interval":          {o.controlLoopInterval, 10 * time.Second},
		"min-analysis-interval":          {o.minAnalysisInterval, 10 * time.Second},
		"route-propagation-delay":        {o.propagationDelay, 3 * time.Second},
		"revert-on-deletion":             {o.revertOnDeletion, false},
		"readiness-conditions":           {o.readiness, false},
		"max-concurrent-queries":         {o.metrics.atOnce, 20},
		"metrics-query-timeout":          {o.metrics.queryTimeout, 5 * time.Second},
		"selector-labels":                {o.selectorLabels, "app,name,app.kubernetes.io/name"},
		"enable-config-tracking":         {o.configTracking, true},
		"enable-leader-election":         {o.election.enabled, false},
		"shards":                         {o.election.shards, 0},
		"leader-election-namespace":      {o.election.namespace, "kube-system"},
		"leader-election-lease-duration": {o.election.leaseDuration, time.Minute},
		"leader-election-renew-deadline": {o.election.renewDeadline, 15 * time.Second},
		"leader-election-retry-period":   {o.election.period, 5 * time.Second},
		"slack-user":                     {o.slack.user, "flagger"},
		"log-level":                      {o.logLevel, "debug"},
		"zap-encoding":                   {o.zapEncoding, "json"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("-%s is %v, want %v", name, pair[0], pair[1])
		}
	}
}

func TestEnvironmentWinsOverFlags(t *testing.T) {
	environment := map[string]string{"SLACK_URL": "https://env", "EVENT_WEBHOOK_URL": "https://events", "MSTEAMS_URL": ""}
	lookup := func(name string) (string, bool) {
		value, ok := environment[name]
		return value, ok
	}
	o, err := parse([]string{"-slack-url=https://flag", "-msteams-url=https://teams"}, lookup, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.slack.url != "https://env" || o.eventWebhook != "https://events" {
		t.Errorf("slack %q, events %q", o.slack.url, o.eventWebhook)
	}
	if o.msteams.url != "https://teams" {
		t.Errorf("an empty variable replaced the flag: %q", o.msteams.url)
	}
}

func TestFlagsOfFlaggerAreAccepted(t *testing.T) {
	args := []string{
		"-v=2", "-vmodule=x=1", "-logtostderr", "-alsologtostderr", "-log_dir=/tmp", "-log_file=x", "-log_file_max_size=1",
		"-stderrthreshold=2", "-add_dir_header", "-skip_headers", "-skip_log_headers", "-one_output", "-log_backtrace_at=x.go:1",
		"-kubeconfig=", "-master=", "-kubeconfig-service-mesh=", "-log-level=info", "-slack-url=", "-slack-token=",
		"-slack-proxy-url=", "-slack-channel=", "-msteams-proxy-url=", "-include-label-prefix=", "-zap-replace-globals",
		"-namespace=", "-ingress-annotations-prefix=", "-ingress-class=", "-cluster-name=", "-no-cross-namespace-refs", "--port=1",
	}
	if _, err := parse(args, noEnvironment, io.Discard); err != nil {
		t.Error(err)
	}
}

func TestWrongFlagsNameTheFlag(t *testing.T) {
	for arg, want := range map[string]string{
		"-control-loop-interval=0s":                 "-control-loop-interval",
		"-min-analysis-interval=-1s":                "-min-analysis-interval",
		"-kubeconfig-timeout=0s":                    "-kubeconfig-timeout",
		"-metrics-query-timeout=0s":                 "-metrics-query-timeout",
		"-route-propagation-delay=-1s":              "-route-propagation-delay",
		"-threadiness=0":                            "-threadiness",
		"-kubeconfig-qps=-1":                        "-kubeconfig-qps",
		"-kubeconfig-burst=-1":                      "-kubeconfig-burst",
		"-max-concurrent-rollouts=-1":               "-max-concurrent-rollouts",
		"-max-concurrent-rollouts-per-namespace=-1": "-max-concurrent-rollouts-per-namespace",
		"-max-concurrent-queries=-1":                "-max-concurrent-queries",
		"-shards=-1":                                "-shards",
		"-shards=1025":                              "-shards",
		"-rollout-windows=Mon-Fri 9-17":             "-rollout-windows",
		"-rollout-freezes=2026-12-24;tomorrow":      "-rollout-freezes",
		"-rollout-time-zone=Berlin":                 "-rollout-time-zone",
		"mesh-provider=istio":                       "mesh-provider=istio",
		"-nonsense":                                 "nonsense",
	} {
		if _, err := parse([]string{arg}, noEnvironment, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", arg, err)
		}
	}
}

// One process can't know who begins next if others begin as well, and none may act longer than others wait for it.
func TestShardsExcludeLimits(t *testing.T) {
	for _, args := range [][]string{
		{"-max-concurrent-rollouts=1"}, {"-max-concurrent-rollouts-per-namespace=1"}, {"-leader-election-lease-duration=15s"},
		{"-leader-election-retry-period=15s"},
	} {
		if _, err := parse(append(args, "-shards=4"), noEnvironment, io.Discard); err == nil || !strings.Contains(err.Error(), "-shards") {
			t.Errorf("%s: %v", args, err)
		}
		if _, err := parse(args, noEnvironment, io.Discard); err != nil {
			t.Errorf("%s without shards: %v", args, err)
		}
	}
}

func TestLists(t *testing.T) {
	if got := list(" app, name,,"); !slices.Equal(got, []string{"app", "name"}) {
		t.Errorf("got %q", got)
	}
}

func TestFlagDocs(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "flags.md")
	want := flagDocs()
	if *update {
		if err := os.WriteFile(path, want, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("docs/flags.md is not what the flags say: run go test ./cmd/flagger -update")
	}
}

// flagDocs renders docs/flags.md.
func flagDocs() []byte {
	klogFlags := flag.NewFlagSet("", flag.ContinueOnError)
	klog.InitFlags(klogFlags)
	var own, logging bytes.Buffer
	newFlagSet(&options{}, io.Discard).VisitAll(func(f *flag.Flag) {
		if klogFlags.Lookup(f.Name) != nil {
			fmt.Fprintf(&logging, "| `-%s` | %s |\n", f.Name, f.Usage)
			return
		}
		fmt.Fprintf(&own, "| `-%s` | %s | %s | %s |\n", f.Name, code(f.DefValue), code(environment[f.Name]), f.Usage)
	})
	var b bytes.Buffer
	fmt.Fprintln(&b, "# Flags of the operator")
	fmt.Fprintln(&b, "\nWritten by `go test ./cmd/flagger -update` from the flags themselves. A variable of the environment that is set and not\nempty wins over its flag.")
	fmt.Fprintln(&b, "\n| Flag | Default | Environment | Meaning |\n|---|---|---|---|")
	b.Write(own.Bytes())
	fmt.Fprintln(&b, "\n## Client library\n\nThe client library of Kubernetes logs to the log of the operator. Its own flags are accepted; of them `-v` and\n`-vmodule` choose how much it says.")
	fmt.Fprintln(&b, "\n| Flag | Meaning |\n|---|---|")
	b.Write(logging.Bytes())
	return b.Bytes()
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

// -help is about our flags, each with its default; those of klog are only named.
func TestHelp(t *testing.T) {
	var out bytes.Buffer
	if _, err := parse([]string{"-help"}, noEnvironment, &out); !errors.Is(err, flag.ErrHelp) {
		t.Fatal(err)
	}
	help := out.String()
	for _, want := range []string{"Usage: flagger [flags]", `-mesh-provider string`, `(default "istio")`, "(default 10s)", "(default true)", "-vmodule"} {
		if !strings.Contains(help, want) {
			t.Errorf("help does not say %q:\n%s", want, help)
		}
	}
	if strings.Contains(help, "stack trace") {
		t.Error("help explains the flags of klog")
	}
}

func TestErrorOutsideOfAClusterNamesTheFlag(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	_, err := connect(&options{}, telemetry.New("test", "istio"))
	if err == nil || !strings.Contains(err.Error(), "set -kubeconfig") || strings.Contains(err.Error(), `""`) {
		t.Errorf("error %v", err)
	}
}

func TestMetricsServer(t *testing.T) {
	o, err := parse([]string{
		"-metrics-server=https://mimir/prometheus", "-metrics-server-secret=monitoring/mimir",
		"-metrics-server-headers=X-Scope-OrgID=team-a|team-b, X-Source=flagger", "-metrics-server-region=eu-central-1", "-metrics-server-insecure-skip-verify",
	}, noEnvironment, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	got, err := o.metrics.server()
	want := metrics.Server{
		Address: "https://mimir/prometheus", Secret: types.NamespacedName{Namespace: "monitoring", Name: "mimir"}, Region: "eu-central-1", SkipVerify: true,
		Headers: map[string][]string{"X-Scope-OrgID": {"team-a|team-b"}, "X-Source": {"flagger"}},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	for _, arg := range []string{"-metrics-server-secret=mimir", "-metrics-server-secret=a/b/c", "-metrics-server-secret=/x", "-metrics-server-headers=hunter2", "-metrics-server-headers=X-Key=hunter2,=hunter2"} {
		if _, err := parse([]string{arg}, noEnvironment, io.Discard); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", arg, err)
		}
	}
}

// The address of the metrics server may hold a password, and its errors what the Secret holds.
func TestLogKeepsThePasswordOfTheMetricsServer(t *testing.T) {
	for _, address := range []string{"http://user:hunter2@127.0.0.1:1", "ftp://user:hunter2@host", "http://user:hunter2@[::1"} {
		core, logs := observer.New(zap.DebugLevel)
		checkMetricsServer(t.Context(), &metrics.Evaluator{Server: metrics.Server{Address: address}}, zap.New(core))
		if lines := logs.All(); len(lines) != 1 || lines[0].Level != zap.ErrorLevel || strings.Contains(lines[0].Message, "hunter2") {
			t.Errorf("%s: %v", address, lines)
		}
	}
}
