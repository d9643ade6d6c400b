package main

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"flagger.app/flagger/pkg/hook"
	"flagger.app/flagger/pkg/metrics"
)

// options are the flags of the operator.
type options struct {
	kubeconfig, master, kubeconfigServiceMesh string
	qps, burst                                int
	timeout                                   time.Duration

	metrics             serverOptions
	controlLoopInterval time.Duration
	minAnalysisInterval time.Duration
	propagationDelay    time.Duration
	revertOnDeletion    bool
	readiness           bool
	threadiness         int

	maxRollouts, maxRolloutsPerNamespace int
	schedule                             scheduleOptions

	logLevel, zapEncoding string
	zapReplaceGlobals     bool
	port, pprofAddress    string
	version               bool

	slack   slackOptions
	msteams teamsOptions

	eventWebhook, clusterName string
	eventFormat               string

	namespace, meshProvider, includeLabelPrefix, selectorLabels string
	ingressAnnotationsPrefix, ingressClass                      string
	configTracking, noCrossNamespaceRefs                        bool

	election electionOptions
}

// serverOptions are those of the Prometheus of all Canaries that name no other.
type serverOptions struct {
	address, secret, headers, region string
	skipVerify                       bool
	// atOnce is for every server, this one and those of templates.
	atOnce int
	// queryTimeout is for every back-end that has no longer one of its own.
	queryTimeout time.Duration
}

type slackOptions struct{ url, token, proxyURL, user, channel string }

type teamsOptions struct{ url, proxyURL string }

// maxShards bounds what stands in the lease. Nobody has as many replicas.
const maxShards = 1024

type electionOptions struct {
	enabled                              bool
	shards                               int
	namespace                            string
	leaseDuration, renewDeadline, period time.Duration
}

// environment maps the flags that an environment variable overrides to its name.
var environment = map[string]string{
	"slack-url":         "SLACK_URL",
	"slack-token":       "SLACK_TOKEN",
	"slack-proxy-url":   "SLACK_PROXY_URL",
	"msteams-url":       "MSTEAMS_URL",
	"msteams-proxy-url": "MSTEAMS_PROXY_URL",
	"event-webhook":     "EVENT_WEBHOOK_URL",
}

// newFlagSet returns the flags of the operator, bound to o, and those of klog.
func newFlagSet(o *options, output io.Writer) *flag.FlagSet {
	fs := flag.NewFlagSet("flagger", flag.ContinueOnError)
	fs.SetOutput(output)
	o.bindCluster(fs)
	o.bindLoop(fs)
	o.bindMetrics(fs)
	o.bindOutput(fs)
	o.bindRollouts(fs)
	o.bindElection(fs)
	own := flagsOf(fs)
	klog.InitFlags(fs)
	fs.Usage = func() { usage(fs, own) }
	return fs
}

func flagsOf(fs *flag.FlagSet) []*flag.Flag {
	var all []*flag.Flag
	fs.VisitAll(func(f *flag.Flag) { all = append(all, f) })
	return all
}

// usage explains our own flags. Those of the client library, which nobody needs in normal operation, are only named.
func usage(fs *flag.FlagSet, own []*flag.Flag) {
	ours := flag.NewFlagSet(fs.Name(), flag.ContinueOnError)
	ours.SetOutput(fs.Output())
	for _, f := range own {
		ours.Var(f.Value, f.Name, f.Usage)
		// The value may have been set already.
		ours.Lookup(f.Name).DefValue = f.DefValue
	}
	_, _ = fmt.Fprint(fs.Output(), "Flagger rolls out new revisions of workloads step by step, as Canary objects ask for.\n\nUsage: flagger [flags]\n\n")
	ours.PrintDefaults()
	var others []string
	for _, f := range flagsOf(fs) {
		if ours.Lookup(f.Name) == nil {
			others = append(others, "-"+f.Name)
		}
	}
	_, _ = fmt.Fprintf(fs.Output(), "\nLogging of the client library (klog), of which only -v and -vmodule have an effect:\n  %s\n", strings.Join(others, " "))
}

func (o *options) bindCluster(fs *flag.FlagSet) {
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "Path to a kubeconfig. Only required if out-of-cluster.")
	fs.StringVar(&o.master, "master", "", "The address of the Kubernetes API server. Overrides any value in kubeconfig. Only required if out-of-cluster.")
	fs.IntVar(&o.qps, "kubeconfig-qps", 0, "Most calls per second to the Kubernetes API server. 0 means 100 with -kubeconfig-burst, and without it that the server alone sets the pace, by API Priority and Fairness.")
	fs.IntVar(&o.burst, "kubeconfig-burst", 0, "Calls to the Kubernetes API server in a burst beyond -kubeconfig-qps. 0 means 250 with -kubeconfig-qps, and no limit without it.")
	fs.DurationVar(&o.timeout, "kubeconfig-timeout", time.Minute, "Time that the Kubernetes API server has to answer a call. A call without an answer is repeated.")
	fs.StringVar(&o.kubeconfigServiceMesh, "kubeconfig-service-mesh", "", "Path to a kubeconfig for the cluster of the service mesh. Default: that of -kubeconfig.")
	fs.StringVar(&o.namespace, "namespace", "", "Namespace that Flagger watches. Empty means all.")
}

func (o *options) bindLoop(fs *flag.FlagSet) {
	o.schedule.bind(fs)
	fs.DurationVar(&o.controlLoopInterval, "control-loop-interval", 10*time.Second, "Accepted for compatibility and without effect: changes are acted on when they happen.")
	fs.DurationVar(&o.minAnalysisInterval, "min-analysis-interval", 10*time.Second, "Least time between two analysis steps. A shorter spec.analysis.interval is raised to it.")
	fs.DurationVar(&o.propagationDelay, "route-propagation-delay", 3*time.Second, "Time that a change of routes needs to reach every proxy, for providers that don't report it, and that new pods need to be found by them.")
	fs.BoolVar(&o.readiness, "readiness-conditions", false, "Write the conditions Ready, Reconciling and Stalled and status.observedGeneration of Canaries, which tools of GitOps wait for: until a rollout is promoted or taken back.")
	fs.BoolVar(&o.revertOnDeletion, "revert-on-deletion", false, "Value of spec.revertOnDeletion for Canaries that do not set it: give the traffic back to the target before a Canary is deleted.")
	fs.IntVar(&o.threadiness, "threadiness", 2, "For each of these threads up to 16 Canaries are worked on at the same time, most of which wait for the API server. Waiting for webhooks and metrics does not count.")
	fs.IntVar(&o.maxRolloutsPerNamespace, "max-concurrent-rollouts-per-namespace", 0, "Number of rollouts of one namespace that are under way at the same time. A namespace that is full holds up no other. 0 means no limit.")
	fs.IntVar(&o.maxRollouts, "max-concurrent-rollouts", 0, "Number of rollouts that are under way at the same time, suspended ones included. More wait for their turn, first come first served. 0 means no limit.")
}

func (o *options) bindMetrics(fs *flag.FlagSet) {
	m := &o.metrics
	fs.StringVar(&m.address, "metrics-server", "http://prometheus:9090", "Prometheus URL.")
	fs.StringVar(&m.secret, "metrics-server-secret", "", "Secret, as namespace/name, with what -metrics-server is asked by: token, or username and password; headers; ca.crt; tls.crt and tls.key. A change of it takes effect within 10s.")
	fs.StringVar(&m.headers, "metrics-server-headers", "", "Comma-separated list of headers for -metrics-server, as in X-Scope-OrgID=team-a.")
	fs.StringVar(&m.region, "metrics-server-region", "", "Region of Amazon Managed Service for Prometheus. Requests to -metrics-server are signed for it with the operator's identity.")
	fs.DurationVar(&m.queryTimeout, "metrics-query-timeout", metrics.Timeout, "Time that a metrics back-end has for one query, those of MetricTemplates included. influxdb has 15s at the least, and an Analysis of keptn always 10s.")
	fs.IntVar(&m.atOnce, "max-concurrent-queries", 20, "Number of queries that one metrics server is asked at the same time, those of MetricTemplates included. More wait for their turn. The default is what Prometheus works on at a time. 0 means no limit.")
	fs.BoolVar(&m.skipVerify, "metrics-server-insecure-skip-verify", false, "Accept any certificate of -metrics-server.")
}

func (o *options) bindOutput(fs *flag.FlagSet) {
	fs.StringVar(&o.logLevel, "log-level", "debug", "Log level can be: debug, info, warn, error, fatal, panic.")
	fs.StringVar(&o.zapEncoding, "zap-encoding", "json", "Zap logger encoding: json or console.")
	fs.BoolVar(&o.zapReplaceGlobals, "zap-replace-globals", false, "Whether to change the logging level of the global zap logger.")
	fs.StringVar(&o.port, "port", "8080", "Port to listen on for /metrics, /healthz and /readyz.")
	fs.StringVar(&o.pprofAddress, "pprof-address", "", "Address to serve profiles of the Go runtime on, as in localhost:6060, under /debug/pprof/. Empty means that there are none.")
	fs.BoolVar(&o.version, "version", false, "Print the version and exit.")
	fs.StringVar(&o.slack.url, "slack-url", "", "Slack hook URL.")
	fs.StringVar(&o.slack.token, "slack-token", "", "Slack bot token.")
	fs.StringVar(&o.slack.proxyURL, "slack-proxy-url", "", "Slack proxy URL.")
	fs.StringVar(&o.slack.user, "slack-user", "flagger", "Slack user name.")
	fs.StringVar(&o.slack.channel, "slack-channel", "", "Slack channel.")
	fs.StringVar(&o.msteams.url, "msteams-url", "", "MS Teams incoming webhook URL.")
	fs.StringVar(&o.msteams.proxyURL, "msteams-proxy-url", "", "MS Teams proxy URL.")
	fs.StringVar(&o.eventWebhook, "event-webhook", "", "Webhook for the events of Canaries that have no webhook of type event.")
	fs.StringVar(&o.eventFormat, "event-webhook-format", string(hook.FormatFlagger), "What webhooks of type event and -event-webhook get: flagger is the payload of all webhooks; cloudevents is CloudEvents 1.0 in JSON, cloudevents-binary the same in its binary mode.")
	fs.StringVar(&o.clusterName, "cluster-name", "", "Cluster name to be included in alerts.")
}

func (o *options) bindRollouts(fs *flag.FlagSet) {
	fs.StringVar(&o.meshProvider, "mesh-provider", "istio", "Service mesh or ingress of Canaries without spec.provider. An unknown name ends the process with the list of all.")
	fs.StringVar(&o.includeLabelPrefix, "include-label-prefix", "", "Comma-separated list of prefixes of labels that are copied to primaries; * means all.")
	fs.StringVar(&o.selectorLabels, "selector-labels", "app,name,app.kubernetes.io/name", "Comma-separated list of pod labels that Flagger uses to create pod selectors, the best first.")
	fs.StringVar(&o.ingressAnnotationsPrefix, "ingress-annotations-prefix", "nginx.ingress.kubernetes.io", "Annotations prefix for NGINX ingresses.")
	fs.StringVar(&o.ingressClass, "ingress-class", "", "Ingress class of generated HTTPProxies.")
	fs.BoolVar(&o.configTracking, "enable-config-tracking", true, "Track secrets and configmaps.")
	fs.BoolVar(&o.noCrossNamespaceRefs, "no-cross-namespace-refs", false, "When set to true, Flagger can only refer to resources in the namespace of the Canary.")
}

func (o *options) bindElection(fs *flag.FlagSet) {
	e := &o.election
	fs.BoolVar(&e.enabled, "enable-leader-election", false, "Enable leader election: of several replicas one acts at a time.")
	fs.IntVar(&e.shards, "shards", 0, "Number of parts that the Canaries are in, of which each replica works on its share; 8 for each replica is a good number. It is the same for all replicas. 0 means that one replica works on all, which the limits of rollouts need.")
	fs.StringVar(&e.namespace, "leader-election-namespace", "kube-system", "Namespace of the lease. Replaced by -namespace if that is set.")
	fs.DurationVar(&e.leaseDuration, "leader-election-lease-duration", 60*time.Second, "Time after which another replica takes over a lease that is not renewed.")
	fs.DurationVar(&e.renewDeadline, "leader-election-renew-deadline", 15*time.Second, "Time in which the leader has to renew the lease before it gives up.")
	fs.DurationVar(&e.period, "leader-election-retry-period", 5*time.Second, "Time between two tries to get or renew the lease.")
}

// parse reads the flags; environment variables win over them.
func parse(args []string, lookup func(string) (string, bool), output io.Writer) (*options, error) {
	o := &options{}
	fs := newFlagSet(o, output)
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: flags begin with a dash", fs.Arg(0))
	}
	for name, variable := range environment {
		if value, ok := lookup(variable); ok && value != "" {
			if err := fs.Set(name, value); err != nil {
				return nil, fmt.Errorf("environment variable %s: %w", variable, err)
			}
		}
	}
	return o, o.check()
}

// What limits calls where only one of the two flags about them is set. They are the defaults of Flagger.
const (
	defaultQPS   = 100
	defaultBurst = 250
)

// rate is how many calls a client may make in a second and in a burst. Where no flag asks for a limit it is negative, as the client
// library spells that there is none: servers with API Priority and Fairness queue calls, answer 429 when they have too many, and
// share fairly what they can do. A limit of the client knows nothing of that and only adds delay.
func (o *options) rate() (qps float32, burst int) {
	if o.qps == 0 && o.burst == 0 {
		return -1, 0
	}
	return float32(cmp.Or(o.qps, defaultQPS)), cmp.Or(o.burst, defaultBurst)
}

// server is what the flags say about the Prometheus of all Canaries that name no other.
func (m *serverOptions) server() (metrics.Server, error) {
	s := metrics.Server{Address: m.address, SkipVerify: m.skipVerify, Region: m.region}
	if m.secret != "" {
		namespace, name, ok := strings.Cut(m.secret, "/")
		if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
			return s, fmt.Errorf("-metrics-server-secret %q is not like namespace/name", m.secret)
		}
		s.Secret = types.NamespacedName{Namespace: namespace, Name: name}
	}
	for _, header := range list(m.headers) {
		name, value, ok := strings.Cut(header, "=")
		if name, value = strings.TrimSpace(name), strings.TrimSpace(value); !ok || name == "" || value == "" {
			return s, fmt.Errorf("-metrics-server-headers has an entry that is not like X-Scope-OrgID=team-a")
		}
		if s.Headers == nil {
			s.Headers = map[string][]string{}
		}
		s.Headers[name] = append(s.Headers[name], value)
	}
	return s, nil
}

func (o *options) check() error {
	for name, value := range map[string]time.Duration{
		"control-loop-interval": o.controlLoopInterval,
		"min-analysis-interval": o.minAnalysisInterval,
		"kubeconfig-timeout":    o.timeout,
		"metrics-query-timeout": o.metrics.queryTimeout,
	} {
		if value <= 0 {
			return fmt.Errorf("-%s must be more than 0, as in 10s", name)
		}
	}
	if o.propagationDelay < 0 {
		return fmt.Errorf("-route-propagation-delay must not be negative")
	}
	if o.qps < 0 || o.burst < 0 {
		return fmt.Errorf("-kubeconfig-qps and -kubeconfig-burst must not be negative; 0 means no limit")
	}
	if o.threadiness < 1 {
		return fmt.Errorf("-threadiness must be at least 1")
	}
	for name, value := range map[string]int{
		"max-concurrent-rollouts":               o.maxRollouts,
		"max-concurrent-rollouts-per-namespace": o.maxRolloutsPerNamespace,
	} {
		if value < 0 {
			return fmt.Errorf("-%s must not be negative; 0 means no limit", name)
		}
	}
	if o.metrics.atOnce < 0 {
		return fmt.Errorf("-max-concurrent-queries must not be negative; 0 means no limit")
	}
	if err := o.checkShards(); err != nil {
		return err
	}
	if _, err := hook.ParseFormat(o.eventFormat); err != nil {
		return fmt.Errorf("-event-webhook-format: %w", err)
	}
	_, err := o.schedule.schedule()
	if err != nil {
		return err
	}
	_, err = o.metrics.server()
	return err
}

// checkShards refuses what is decided by one process that sees all.
func (o *options) checkShards() error {
	switch e := o.election; {
	case e.shards < 0 || e.shards > maxShards:
		return fmt.Errorf("-shards must be between 0 and %d; 0 means that one replica works on all Canaries", maxShards)
	case e.shards == 0:
		return nil
	case e.leaseDuration <= e.renewDeadline || e.renewDeadline <= e.period:
		return fmt.Errorf("-shards needs a -leader-election-lease-duration longer than -leader-election-renew-deadline, and that longer than -leader-election-retry-period")
	case o.maxRollouts > 0 || o.maxRolloutsPerNamespace > 0:
		return fmt.Errorf("-shards can't be used with -max-concurrent-rollouts and -max-concurrent-rollouts-per-namespace: one replica has to know who begins next; leave out -shards, so that one works on all, or leave out the limits")
	}
	return nil
}

// list splits a comma-separated flag.
func list(value string) []string {
	var items []string
	for _, item := range strings.Split(value, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}
