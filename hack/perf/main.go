// Command perf measures what the operator costs: it puts many applications behind Canaries on the control plane of a testbed, gives
// all of them a new revision at the same moment, and reports the calls to the API server for each Canary, time, processor and
// memory. Nodes, gateway and Prometheus are simulated. `make perf` runs it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/client/clientset/versioned"
)

const (
	// interval is that of the analyses.
	interval = 10 * time.Second
	// patience bounds every wait, with what each Canary adds: controllers of Kubernetes make pods at a pace of their own.
	patience          = 10 * time.Minute
	patienceForCanary = 500 * time.Millisecond
)

// settings are the flags.
type settings struct {
	n                 int
	rolls             []int
	restart           bool
	soak              time.Duration
	plot              string
	operator          string
	counts, out, dir  string
	profiles          string
	idle              time.Duration
	headless          bool
	trace, updateFile bool
}

func main() {
	var s settings
	flag.IntVar(&s.n, "n", 20, "Number of Canaries.")
	roll := flag.String("roll", "", "Number of Canaries that get a new revision, in percent or not. Several numbers, such as 1%,10%,100%, are for one stage after the other. Default: all.")
	flag.BoolVar(&s.headless, "headless", false, "Make Services without an address. For each address that it gives, the API server looks at all that it has given, which is most of its work where there are thousands.")
	flag.BoolVar(&s.restart, "restart", false, "At the end, start the operator anew on the Canaries that have settled.")
	flag.DurationVar(&s.soak, "soak", 0, "Roll out again and again for this long, instead of the stages rollout and idle, and note what grows. Default: not at all.")
	flag.StringVar(&s.plot, "plot", "bin/soak", "Files for what was noted meanwhile: with .csv the samples, with .svg a plot of them.")
	flag.StringVar(&s.operator, "operator", "bin/flagger", "Program of the operator. What follows the flags are flags for it.")
	flag.StringVar(&s.counts, "counts", "", "File with the most calls that a Canary may take; more fail.")
	flag.BoolVar(&s.updateFile, "update", false, "Write what was counted into that file.")
	flag.StringVar(&s.out, "out", "", "File for the report as JSON. Default: standard output.")
	flag.StringVar(&s.dir, "dir", "", "Folder for the log of the operator. Default: a temporary one.")
	flag.StringVar(&s.profiles, "profiles", "", "Folder for profiles of the operator and of the API server, of the processor during each stage, and of the heap of the operator after it. They cost something.")
	flag.DurationVar(&s.idle, "idle", time.Minute, "How long to look on once all is done.")
	flag.BoolVar(&s.trace, "trace", false, "List the calls about the first application.")
	flag.Parse()
	var err error
	if s.rolls, err = parseRolls(*roll, s.n); err != nil {
		fmt.Fprintln(os.Stderr, "perf: -roll:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, &s); err != nil {
		fmt.Fprintln(os.Stderr, "perf:", err)
		stop()
		os.Exit(1)
	}
}

// parseRolls reads how many of n Canaries get a new revision, in each of a list of stages.
func parseRolls(list string, n int) (rolls []int, err error) {
	if list == "" {
		return []int{n}, nil
	}
	for one := range strings.SplitSeq(list, ",") {
		number, percent := strings.CutSuffix(strings.TrimSpace(one), "%")
		share, err := strconv.ParseFloat(number, 64)
		if err != nil || !(share > 0) || math.IsInf(share, 0) {
			return nil, fmt.Errorf("%q is neither a number nor a percentage above 0", one)
		}
		if percent {
			share *= float64(n) / 100
		}
		rolls = append(rolls, min(n, max(1, int(share))))
	}
	return rolls, nil
}

func (s *settings) patience() time.Duration { return patience + time.Duration(s.n)*patienceForCanary }

// bench is a benchmark under way.
type bench struct {
	*settings
	clock   clock.WithTicker
	kube    kubernetes.Interface
	flagger versioned.Interface
	dynamic dynamic.Interface
	phases  *phases
}

func run(ctx context.Context, s *settings) error {
	ctx, cancel := context.WithTimeout(ctx, 4*s.patience()+s.soak)
	defer cancel()
	b, err := newBench(s)
	if err != nil {
		return err
	}
	if s.dir == "" {
		if s.dir, err = os.MkdirTemp("", "perf"); err != nil {
			return err
		}
		defer os.RemoveAll(s.dir)
	}
	metrics, err := b.prepare(ctx)
	if err != nil {
		return err
	}
	args := flag.Args()
	if s.profiles != "" || s.soak > 0 {
		args = append(args, "-pprof-address", "127.0.0.1:"+profilePort)
	}
	start := func() (*operator, error) { return operate(ctx, s.operator, s.dir, metrics, args) }
	o, err := start()
	if err != nil {
		return err
	}
	r, err := b.measure(ctx, o)
	if err = errors.Join(err, o.end()); err != nil {
		return err
	}
	if s.restart {
		s, err := b.again(ctx, start)
		if err != nil {
			return fmt.Errorf("start with settled Canaries: %w", err)
		}
		r.add("start", s)
	}
	if err := write(r, s.out); err != nil {
		return err
	}
	r.table(os.Stderr)
	if s.counts != "" {
		return r.check(s.counts, s.updateFile)
	}
	return nil
}

func newBench(s *settings) (*bench, error) {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return nil, err
	}
	// The benchmark must not be what is measured.
	config.QPS, config.UserAgent = -1, "perf"
	b := &bench{settings: s, clock: clock.RealClock{}, phases: newPhases()}
	if b.flagger, err = versioned.NewForConfig(config); err != nil {
		return nil, err
	}
	if b.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return nil, err
	}
	builtIn := rest.CopyConfig(config)
	builtIn.ContentType, builtIn.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	b.kube, err = kubernetes.NewForConfig(builtIn)
	return b, err
}

// prepare makes the world that the operator works in, and returns the address of Prometheus.
func (b *bench) prepare(ctx context.Context) (metrics string, err error) {
	for i := 0; i*namespaceSize < b.n; i++ {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespaceAt(i)}}
		if _, err := b.kube.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
			return "", err
		}
	}
	if _, err := b.kube.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "perf-operator"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}},
	}, metav1.CreateOptions{}); err != nil {
		return "", err
	}
	log := func(err error) { fmt.Fprintln(os.Stderr, "perf:", err) }
	if err := (&node{kube: b.kube, clock: b.clock, log: log}).run(ctx); err != nil {
		return "", fmt.Errorf("simulated node: %w", err)
	}
	if err := (&gateway{client: b.dynamic, clock: b.clock, log: log}).run(ctx); err != nil {
		return "", fmt.Errorf("simulated gateway: %w", err)
	}
	if err := b.phases.follow(ctx, b.flagger); err != nil {
		return "", err
	}
	if err := each(b.n, func(a app) error { return b.deploy(ctx, a) }); err != nil {
		return "", fmt.Errorf("creating the applications: %w", err)
	}
	if err := b.settled(ctx); err != nil {
		return "", fmt.Errorf("waiting for the applications: %w", err)
	}
	return prometheus(ctx)
}

func write(r any, file string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	raw = append(raw, '\n')
	if file == "" {
		_, err = os.Stdout.Write(raw)
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, raw, 0o644)
}
