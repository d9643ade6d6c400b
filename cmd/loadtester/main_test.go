package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"flagger.app/flagger/pkg/loadtester"
)

func TestDefaults(t *testing.T) {
	o, err := parse(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.port != "9090" || o.timeout != time.Hour || o.logLevel != "debug" || o.zapEncoding != "json" || o.namespaces != nil || !o.shell || o.shellNamespaces != nil || o.maxCommands != 100 {
		t.Errorf("%+v", o)
	}
}

func TestFlags(t *testing.T) {
	o, err := parse([]string{"-port=8080", "-log-level=info", "-timeout=1h", "-namespace-regexp=^a", "-shell-namespaces=a, b", "-enable-shell=false", "-zap-replace-globals"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.port != "8080" || !o.namespaces.MatchString("ab") || strings.Join(o.shellNamespaces, "+") != "a+b" || o.shell {
		t.Errorf("%+v", o)
	}
	if o, err := parse([]string{"-namespace-regexp="}, io.Discard); err != nil || o.namespaces != nil {
		t.Errorf("an empty expression: %+v %v", o, err)
	}
}

func TestWrongFlagsNameTheFlag(t *testing.T) {
	for arg, want := range map[string]string{
		"-timeout=0s": "-timeout", "-max-commands=0": "-max-commands", "-namespace-regexp=(": "-namespace-regexp", "port": `"port"`, "-x": "-x",
	} {
		if _, err := parse([]string{arg}, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", arg, err)
		}
	}
}

var update = flag.Bool("update", false, "write the tables of docs/load-tester.md")

// The page has tables of all flags and metrics, and no others.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/load-tester.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	for head, rows := range map[string]string{"| Flag | Default | Meaning |\n|---|---|---|\n": flagRows(), "| Metric | Meaning |\n|---|---|\n": metricRows(t)} {
		before, after, found := strings.Cut(text, head)
		if !found {
			t.Fatalf("no table %q", head)
		}
		_, rest, _ := strings.Cut(after, "\n\n")
		text = before + head + rows
		if rest != "" {
			text += "\n" + rest
		}
	}
	if *update {
		if err := os.WriteFile("../../docs/load-tester.md", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if text != string(page) {
		t.Error("docs/load-tester.md is not what flags and metrics say: run go test ./cmd/loadtester -run TestDocs -update")
	}
}

func flagRows() string {
	var b strings.Builder
	newFlagSet(&options{}, io.Discard).VisitAll(func(f *flag.Flag) {
		value := f.DefValue
		if value != "" {
			value = "`" + value + "`"
		}
		fmt.Fprintf(&b, "| `-%s` | %s | %s |\n", f.Name, value, f.Usage)
	})
	return b.String()
}

func metricRows(t *testing.T) string {
	t.Helper()
	registry := &described{}
	if _, err := loadtester.New(loadtester.Options{Timeout: 1, MaxCommands: 1, Log: zap.NewNop(), Metrics: registry}); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, c := range registry.collectors {
		descriptions := make(chan *prometheus.Desc, 1)
		c.Describe(descriptions)
		name := regexp.MustCompile(`fqName: "(.+?)", help: "(.+?)"`).FindStringSubmatch((<-descriptions).String())
		fmt.Fprintf(&b, "| `%s` | %s |\n", name[1], name[2])
	}
	return b.String()
}

// described keeps what is registered.
type described struct {
	prometheus.Registerer
	collectors []prometheus.Collector
}

func (d *described) MustRegister(all ...prometheus.Collector) {
	d.collectors = append(d.collectors, all...)
}

func TestGatesNeedAnAPIServer(t *testing.T) {
	t.Setenv("KUBECONFIG", "/nowhere")
	for _, o := range []*options{{gates: "gates", kubeconfig: "/nowhere"}, {gates: "test/gates"}} {
		if _, err := o.openGates(); err == nil || !strings.Contains(err.Error(), "-gates-configmap") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
