// Package e2e runs the operator against a real API server and real controllers. It needs the environment that
// `make test-api` and `make test-lives` make; elsewhere its tests are skipped.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	watchtools "k8s.io/client-go/tools/watch"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/client/clientset/versioned"
)

const (
	v1, v2, v3 = "stefanprodan/podinfo:6.9.2", "stefanprodan/podinfo:6.9.3", "stefanprodan/podinfo:6.9.3-again"
	// nodeAddress is where the tests are, as pods of the testbed see it.
	nodeAddress = "10.244.255.1"
	// patience bounds every wait, on a busy machine too.
	patience = 10 * time.Minute
)

var (
	deployments     = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	virtualServices = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1beta1", Resource: "virtualservices"}
)

// bed is the cluster that all tests share.
type bed struct {
	config  *rest.Config
	kube    kubernetes.Interface
	flagger versioned.Interface
	dynamic dynamic.Interface
	ports   atomic.Int32
}

var shared = sync.OnceValues(func() (*bed, error) {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst, config.UserAgent = 200, 400, "e2e"
	b := &bed{config: config, kube: kubernetes.NewForConfigOrDie(config), flagger: versioned.NewForConfigOrDie(config), dynamic: dynamic.NewForConfigOrDie(config)}
	b.ports.Store(18080)
	istio, err := moduleFile("istio.io/api", "kubernetes/customresourcedefinitions.gen.yaml")
	if err != nil {
		return nil, err
	}
	files := []string{istio}
	if os.Getenv(ownBed) == "" {
		files = append(files, filepath.Join(os.Getenv("ROOT"), "artifacts/flagger/crd.yaml"))
	}
	for _, file := range files {
		if err := b.install(context.Background(), file); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return b, nil
})

// downloadedFile is a file of a module that this one does not depend on, in an exact version.
func downloadedFile(module, file string) (string, error) {
	out, err := exec.Command("go", "mod", "download", "-json", module).Output()
	if err != nil {
		return "", fmt.Errorf("go mod download %s: %w", module, err)
	}
	var found struct{ Dir string }
	err = json.Unmarshal(out, &found)
	return filepath.Join(found.Dir, file), err
}

func moduleFile(module, file string) (string, error) {
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module)
	cmd.Dir = os.Getenv("ROOT")
	out, err := cmd.Output()
	return filepath.Join(strings.TrimSpace(string(out)), file), err
}

// install creates the CRDs in a file and waits until they are served.
func (b *bed) install(ctx context.Context, file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	crds := b.dynamic.Resource(apiextensionsv1.SchemeGroupVersion.WithResource("customresourcedefinitions"))
	for _, document := range bytes.Split(raw, []byte("\n---")) {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(document, &u.Object); err != nil {
			return err
		}
		if u.GetKind() != "CustomResourceDefinition" {
			continue
		}
		if _, err := crds.Create(ctx, u, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		if err := b.served(ctx, u.GetName()); err != nil {
			return err
		}
	}
	return nil
}

// served waits until a CRD is, and until whoever asks what is served hears of it, which is later.
func (b *bed) served(ctx context.Context, crd string) error {
	lw := watchOf(ctx, b.dynamic.Resource(apiextensionsv1.SchemeGroupVersion.WithResource("customresourcedefinitions")), crd)
	if _, err := watchtools.UntilWithSync(ctx, lw, &unstructured.Unstructured{}, nil, established); err != nil {
		return err
	}
	plural, group, _ := strings.Cut(crd, ".")
	return wait.PollUntilContextTimeout(ctx, pace, patience, true, func(context.Context) (bool, error) {
		// Groups that can't be had now are no concern.
		_, lists, _ := b.kube.Discovery().ServerGroupsAndResources()
		return slices.ContainsFunc(lists, func(l *metav1.APIResourceList) bool {
			return strings.HasPrefix(l.GroupVersion, group+"/") &&
				slices.ContainsFunc(l.APIResources, func(r metav1.APIResource) bool { return r.Name == plural })
		}), nil
	})
}

func established(e watch.Event) (bool, error) {
	u, ok := e.Object.(*unstructured.Unstructured)
	if !ok {
		return false, nil
	}
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range conditions {
		m := c.(map[string]any)
		if m["type"] == "Established" && m["status"] == "True" {
			return true, nil
		}
	}
	return false, nil
}

func watchOf(ctx context.Context, r dynamic.ResourceInterface, name string) cache.ListerWatcher {
	only := fields.OneTermEqualSelector("metadata.name", name).String()
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = only
			return r.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = only
			return r.Watch(ctx, o)
		},
	}
}

// team is one user's namespace with one application and one Canary, and an operator of its own.
type team struct {
	*testing.T
	*bed
	ns string
}

// needsBed skips a test outside of a testbed.
func needsBed(t *testing.T) {
	t.Helper()
	if os.Getenv("FLAGGER") == "" {
		t.Skip("run make test-api or make test-lives")
	}
}

func newTeam(t *testing.T) *team {
	t.Helper()
	needsBed(t)
	b, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	ns, err := b.kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.kube.CoreV1().Namespaces().Delete(context.Background(), ns.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	})
	return &team{T: t, bed: b, ns: ns.Name}
}

func (t *team) must(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// apply creates the objects of a manifest in the team's namespace.
func (t *team) apply(manifest string) {
	t.Helper()
	for _, document := range strings.Split(manifest, "\n---\n") {
		u := &unstructured.Unstructured{}
		t.must(yaml.Unmarshal([]byte(document), &u.Object))
		gvk := u.GroupVersionKind()
		resource, _ := meta.UnsafeGuessKindToResource(gvk)
		if _, err := t.dynamic.Resource(resource).Namespace(t.ns).Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
			t.Fatalf("%s %s: %v", gvk.Kind, u.GetName(), err)
		}
	}
}

// podinfo is the application of a team.
func podinfo(replicas int) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: podinfo, labels: {app: podinfo}}
spec:
  replicas: %d
  progressDeadlineSeconds: 60
  strategy: {rollingUpdate: {maxUnavailable: 0}}
  selector: {matchLabels: {app: podinfo}}
  template:
    metadata: {labels: {app: podinfo}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: podinfod
        image: %s
        command: [./podinfo, --port=9898, --level=info]
        ports: [{name: http, containerPort: 9898}]
        lifecycle: {preStop: {sleep: {seconds: 1}}}
        readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 1, timeoutSeconds: 10}
---
apiVersion: v1
kind: Service
metadata: {name: podinfo}
spec:
  selector: {app: podinfo}
  ports: [{name: http, port: 9898, targetPort: http}]
---
apiVersion: flagger.app/v1beta1
kind: MetricTemplate
metadata: {name: constant}
spec:
  provider: {type: prometheus, address: http://prometheus.monitoring:9090}
  query: vector({{ variables.value }})
`, replicas, v1)
}

// canary is a progressive Canary with a metric that answers 100; edits change it.
func canary(edits ...func(*v1beta1.Canary)) *v1beta1.Canary {
	low := 99.0
	c := &v1beta1.Canary{
		ObjectMeta: metav1.ObjectMeta{Name: "podinfo"},
		Spec: v1beta1.CanarySpec{
			Provider:  "istio",
			TargetRef: v1beta1.LocalObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "podinfo"},
			Service:   v1beta1.CanaryService{Port: 9898},
			Analysis: &v1beta1.CanaryAnalysis{
				Interval: "1s", Threshold: 2, StepWeight: 20, MaxWeight: 60,
				Metrics: []v1beta1.CanaryMetric{{
					Name: "constant", ThresholdRange: &v1beta1.CanaryThresholdRange{Min: &low},
					TemplateRef:       &v1beta1.CrossNamespaceObjectReference{Name: "constant"},
					TemplateVariables: map[string]string{"value": "100"},
				}},
			},
		},
	}
	for _, e := range edits {
		e(c)
	}
	return c
}

func (t *team) create(c *v1beta1.Canary) {
	t.Helper()
	_, err := t.flagger.FlaggerV1beta1().Canaries(t.ns).Create(t.Context(), c, metav1.CreateOptions{})
	t.must(err)
}

func (t *team) edit(change func(*v1beta1.CanarySpec)) {
	t.Helper()
	canaries := t.flagger.FlaggerV1beta1().Canaries(t.ns)
	for {
		c, err := canaries.Get(t.Context(), "podinfo", metav1.GetOptions{})
		t.must(err)
		change(&c.Spec)
		_, err = canaries.Update(t.Context(), c, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) {
			continue
		}
		t.must(err)
		return
	}
}

func (t *team) ship(image string) {
	t.Helper()
	t.shipTo("podinfo", image)
}

func (t *team) shipTo(name, image string) {
	t.Helper()
	patch := fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":"podinfod","image":%q}]}}}}`, image)
	_, err := t.kube.AppsV1().Deployments(t.ns).Patch(t.Context(), name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	t.must(err)
}

// until watches the Canary until it is as wanted.
func (t *team) until(what string, done func(*v1beta1.Canary) bool) *v1beta1.Canary {
	t.Helper()
	return t.untilCanary("podinfo", what, done)
}

// untilCanary watches a Canary until it is as wanted.
func (t *team) untilCanary(name, what string, done func(*v1beta1.Canary) bool) *v1beta1.Canary {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var last *v1beta1.Canary
	r := t.dynamic.Resource(v1beta1.SchemeGroupVersion.WithResource("canaries")).Namespace(t.ns)
	_, err := watchtools.UntilWithSync(ctx, watchOf(ctx, r, name), &unstructured.Unstructured{}, nil, func(e watch.Event) (bool, error) {
		u, ok := e.Object.(*unstructured.Unstructured)
		if !ok || e.Type == watch.Deleted {
			return false, nil
		}
		raw, err := json.Marshal(u.Object)
		if err != nil {
			return false, err
		}
		c := &v1beta1.Canary{}
		if err := json.Unmarshal(raw, c); err != nil {
			return false, err
		}
		last = c
		return done(c), nil
	})
	if err != nil {
		status, _ := yaml.Marshal(last)
		t.Fatalf("waiting for %s: %v\n%s\n%s", what, err, status, strings.Join(t.events(), "\n"))
	}
	return last
}

// settled waits for a phase that the rollout of the image ends in.
func (t *team) settled(phase v1beta1.CanaryPhase) *v1beta1.Canary {
	t.Helper()
	return t.until("rest in "+string(phase), func(c *v1beta1.Canary) bool {
		return c.Status.Phase == phase && c.Status.Rollout != nil && len(c.Status.Rollout.Outbox) == 0
	})
}

// events returns the messages about the Canary in the order in which they were made.
func (t *team) events() []string {
	list, err := t.kube.CoreV1().Events(t.ns).List(context.Background(), metav1.ListOptions{FieldSelector: "involvedObject.kind=Canary"})
	t.must(err)
	slices.SortFunc(list.Items, func(a, b corev1.Event) int { return version(a.ResourceVersion) - version(b.ResourceVersion) })
	var out []string
	for _, e := range list.Items {
		if e.Reason != "Synced" || e.Count > 1 {
			t.Errorf("event %q has reason %q and count %d", e.Message, e.Reason, e.Count)
		}
		out = append(out, e.Type[:1]+" "+e.Message)
	}
	return out
}

func version(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

func (t *team) replicas(name string) (replicas int32, image string) {
	t.Helper()
	d, err := t.kube.AppsV1().Deployments(t.ns).Get(t.Context(), name, metav1.GetOptions{})
	t.must(err)
	return *d.Spec.Replicas, d.Spec.Template.Spec.Containers[0].Image
}

// weights returns what the route of the provider says.
func (t *team) weights(provider string) (primary, canary int64) {
	t.Helper()
	traffic := t.routed(provider)
	return int64(traffic.Primary), int64(traffic.Canary)
}

// process is one that runs.
type process struct {
	cmd  *exec.Cmd
	log  *logBuffer
	done chan error
	once sync.Once
}

// operator is a running operator.
type operator struct {
	*process
	port int32
}

// logBuffer is what a process wrote, readable while it goes on.
type logBuffer struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes.String()
}

// operate starts an operator for the namespace of the team.
func (t *team) operate(args ...string) *operator {
	t.Helper()
	port := t.ports.Add(1)
	args = append([]string{"-kubeconfig", os.Getenv("KUBECONFIG"), "-namespace", t.ns, "-port", fmt.Sprint(port), "-log-level", "info",
		"-metrics-server", "http://prometheus.monitoring:9090", "-min-analysis-interval", "500ms", "-route-propagation-delay", "500ms"}, args...)
	return &operator{t.start(os.Getenv("FLAGGER"), args...), port}
}

// start starts a process, for as long as the test takes.
func (t *team) start(path string, args ...string) *process {
	t.Helper()
	o := &process{log: &logBuffer{}, done: make(chan error, 1), cmd: exec.Command(path, args...)}
	o.cmd.Stdout, o.cmd.Stderr = o.log, o.log
	o.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	t.must(o.cmd.Start())
	go func() { o.done <- o.cmd.Wait() }()
	name := filepath.Base(path)
	t.Cleanup(func() {
		o.kill()
		if t.Failed() {
			t.Logf("%s:\n%s", name, o.log.String())
		} else if strings.Contains(o.log.String(), "DATA RACE") {
			t.Errorf("data race in %s:\n%s", name, o.log.String())
		}
	})
	return o
}

// kill ends the process as a crash would.
func (o *process) kill() {
	o.once.Do(func() {
		_ = o.cmd.Process.Kill()
		<-o.done
	})
}

// stop ends the process as Kubernetes would, and returns its error.
func (o *process) stop() (err error) {
	o.once.Do(func() {
		_ = o.cmd.Process.Signal(syscall.SIGTERM)
		err = <-o.done
	})
	return err
}

// letPass lets the world go on, where what happens meanwhile is the point of a test.
func letPass(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}
