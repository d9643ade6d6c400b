package node_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"flagger.app/flagger/hack/testbed/internal/build"
	"flagger.app/flagger/hack/testbed/internal/node"
)

// insideEnv is set for the part of the tests that runs in a testbed.
const insideEnv = "TESTBED_NODE_TEST_INSIDE"

// TestMain makes this binary the image "app" as well.
func TestMain(m *testing.M) {
	node.MaybeRunContainerInit()
	if len(os.Args) > 1 && os.Args[1] == "app" {
		if err := app(os.Args[2:]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// app is a web server: / tells the pod's name, /file the content of a file,
// /crash ends it with code 3. It ends in order on SIGTERM.
func app(args []string) error {
	if len(args) > 0 && args[0] == "stubborn" {
		signal.Ignore(syscall.SIGTERM)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getenv("HOSTNAME")) })
	mux.HandleFunc("/version", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getenv("VERSION")) })
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, r.FormValue("path")) })
	mux.HandleFunc("/crash", func(http.ResponseWriter, *http.Request) { os.Exit(3) })
	listener, err := net.Listen("tcp", ":8080")
	if err != nil {
		return err
	}
	fmt.Println("serving as", os.Getenv("HOSTNAME"))
	server := &http.Server{Handler: mux}
	go func() { _ = server.Serve(listener) }()
	stop := make(chan os.Signal, 1)
	if len(args) == 0 {
		signal.Notify(stop, syscall.SIGTERM)
	}
	<-stop
	fmt.Println("stopping")
	return server.Shutdown(context.Background())
}

// patience bounds every wait of the tests, on a busy machine too.
const patience = 10 * time.Minute

// TestLive runs the TestInside tests in a testbed of their own.
func TestLive(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a testbed")
	}
	cache, err := build.DefaultCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	built, err := filepath.Glob(filepath.Join(cache, "controlplane-*", "kube-apiserver"))
	if err != nil {
		t.Fatal(err)
	}
	if len(built) == 0 && os.Getenv("TESTBED_BUILD") != "1" {
		t.Skip("the control plane is not built; run `go run ./cmd/testbed build controlplane` or set TESTBED_BUILD=1")
	}
	dir := t.TempDir()
	testbed := filepath.Join(dir, "testbed")
	if out, err := exec.Command("go", "build", "-o", testbed, "flagger.app/flagger/hack/testbed/cmd/testbed").CombinedOutput(); err != nil {
		t.Fatalf("build testbed: %v\n%s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{
		"run", "--name", "node-test", "--state", filepath.Join(dir, "state"), "--timeout", "30m",
		"--image", "test/app:*=" + self + ",app", "--image", "test/stubborn:*=" + self + ",app,stubborn",
		"--", self, "-test.run=^TestInside", "-test.count=1",
	}
	if testing.Verbose() {
		args = append(args, "-test.v")
	}
	cmd := exec.CommandContext(t.Context(), testbed, args...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("in the testbed: %v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// cluster is the testbed seen from a test inside.
type cluster struct {
	t         *testing.T
	client    kubernetes.Interface
	namespace string
}

// inside gives the test a namespace of its own.
func inside(t *testing.T) *cluster {
	t.Helper()
	if os.Getenv(insideEnv) == "" {
		t.Skip("runs in a testbed, see TestLive")
	}
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.ToLower(regexp.MustCompile(`[^a-zA-Z]`).ReplaceAllString(strings.TrimPrefix(t.Name(), "TestInside"), ""))
	c := &cluster{t: t, client: client, namespace: name}
	c.kubectl("create", "namespace", name)
	// Pods are refused until it is there.
	c.kubectl("-n", name, "wait", "--for=create", "serviceaccount/default", "--timeout="+patience.String())
	return c
}

func (c *cluster) run(stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(c.t.Context(), "kubectl", args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), nil
}

func (c *cluster) kubectl(args ...string) string {
	c.t.Helper()
	out, err := c.run("", args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

func (c *cluster) apply(manifest string) {
	c.t.Helper()
	if _, err := c.run(manifest, "-n", c.namespace, "apply", "-f", "-"); err != nil {
		c.t.Fatal(err)
	}
}

// await waits until the pod is as wanted; nil stands for a pod that is gone.
func (c *cluster) await(pod, what string, wanted func(*corev1.Pod) bool) *corev1.Pod {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	for ctx.Err() == nil {
		opts := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", pod).String()}
		list, err := c.client.CoreV1().Pods(c.namespace).List(ctx, opts)
		if err != nil {
			c.t.Fatal(err)
		}
		var last *corev1.Pod
		if len(list.Items) > 0 {
			last = &list.Items[0]
		}
		if wanted(last) {
			return last
		}
		opts.ResourceVersion = list.ResourceVersion
		watcher, err := c.client.CoreV1().Pods(c.namespace).Watch(ctx, opts)
		if err != nil {
			c.t.Fatal(err)
		}
		for event := range watcher.ResultChan() {
			last, _ = event.Object.(*corev1.Pod)
			if event.Type == "DELETED" {
				last = nil
			}
			if wanted(last) {
				watcher.Stop()
				return last
			}
		}
	}
	c.t.Fatalf("pod %s/%s: never %s\n%s", c.namespace, pod, what, c.kubectl("-n", c.namespace, "get", "pod", "-o", "yaml"))
	return nil
}

func isReady(pod *corev1.Pod) bool {
	if pod == nil {
		return false
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

func get(t *testing.T, url string) string {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  replicas: 2
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      containers:
      - name: app
        image: test/app:1
        env: [{name: VERSION, value: "1"}]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: http}}
        lifecycle: {preStop: {sleep: {seconds: 1}}}
---
apiVersion: v1
kind: Service
metadata: {name: app}
spec:
  selector: {app: app}
  ports: [{name: http, port: 80, targetPort: http}]
`

// load calls the Service by its name until stopped, over new and over kept
// connections, and counts.
type load struct {
	stop         context.CancelFunc
	workers      sync.WaitGroup
	calls, fails atomic.Int64
	lastFailure  atomic.Value
}

func startLoad(ctx context.Context, url string) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{stop: cancel}
	for i := range 6 {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}, Timeout: patience}
		l.workers.Go(func() {
			for ctx.Err() == nil {
				res, err := client.Get(url)
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
				l.calls.Add(1)
				if err != nil {
					l.fails.Add(1)
					l.lastFailure.Store(err.Error())
				}
			}
		})
	}
	return l
}

func TestInsideRolloutLosesNoRequest(t *testing.T) {
	c := inside(t)
	t.Parallel()
	c.apply(deployment)
	c.kubectl("-n", c.namespace, "rollout", "status", "deployment/app", "--timeout="+patience.String())
	url := "http://app." + c.namespace + ".svc.cluster.local"
	if got := get(t, url+"/version"); got != "1" {
		t.Fatalf("version %q", got)
	}
	l := startLoad(t.Context(), url)
	for _, version := range []string{"2", "3"} {
		c.kubectl("-n", c.namespace, "set", "env", "deployment/app", "VERSION="+version)
		c.kubectl("-n", c.namespace, "rollout", "status", "deployment/app", "--timeout="+patience.String())
	}
	c.kubectl("-n", c.namespace, "wait", "--for=delete", "pod", "-l", "app=app,pod-template-hash!="+currentHash(c), "--timeout="+patience.String())
	l.stop()
	l.workers.Wait()
	if got := get(t, url+"/version"); got != "3" {
		t.Errorf("version %q after the rollouts", got)
	}
	t.Logf("%d requests, %d failed", l.calls.Load(), l.fails.Load())
	if l.fails.Load() > 0 || l.calls.Load() == 0 {
		t.Errorf("%d of %d requests failed, the last: %v", l.fails.Load(), l.calls.Load(), l.lastFailure.Load())
	}
}

func currentHash(c *cluster) string {
	return strings.TrimSpace(c.kubectl("-n", c.namespace, "get", "replicaset", "-l", "app=app",
		"-o", `jsonpath={.items[?(@.spec.replicas==2)].metadata.labels.pod-template-hash}`))
}

// Not in parallel with the others, as it measures time: 300 ms are usual, and how long it takes on a busy machine is no fault.
func TestInsidePodRunsSoon(t *testing.T) {
	c := inside(t)
	for i := range 5 {
		name := fmt.Sprintf("quick-%d", i)
		began := time.Now()
		c.apply(`{apiVersion: v1, kind: Pod, metadata: {name: ` + name + `}, spec: {containers: [{name: app, image: "test/app:1"}]}}`)
		applied := time.Now()
		c.await(name, "ready", isReady)
		t.Logf("pod %d ready %s after the request was sent, %s after it was answered", i, time.Since(began), time.Since(applied))
	}
}

func TestInsideServiceAccountWorks(t *testing.T) {
	c := inside(t)
	t.Parallel()
	c.apply(`
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: robot}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: robot}]
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  serviceAccountName: robot
  restartPolicy: OnFailure
  containers: [{name: kubectl, image: "kubectl:v1.36.3", command: [kubectl, get, pods, -o, name]}]
`)
	c.await("client", "done", func(p *corev1.Pod) bool { return p != nil && p.Status.Phase == corev1.PodSucceeded })
	if got := c.kubectl("-n", c.namespace, "logs", "client"); got != "pod/client\n" {
		t.Errorf("the pod printed %q", got)
	}
}

func TestInsideVolumesAreRefreshed(t *testing.T) {
	c := inside(t)
	t.Parallel()
	const configMap = `{apiVersion: v1, kind: ConfigMap, metadata: {name: cfg}, data: {color: %s}}`
	c.apply(fmt.Sprintf(configMap, "blue"))
	c.apply(`
apiVersion: v1
kind: Pod
metadata: {name: app, labels: {tier: front}}
spec:
  containers:
  - name: app
    image: test/app:1
    readinessProbe: {httpGet: {path: /, port: 8080}}
    volumeMounts: [{name: cfg, mountPath: /etc/app/cfg}, {name: info, mountPath: /etc/info}]
  volumes:
  - {name: cfg, configMap: {name: cfg}}
  - {name: info, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
`)
	pod := c.await("app", "ready", isReady)
	url := "http://" + pod.Status.PodIP + ":8080/file?path="
	if got := get(t, url+"/etc/app/cfg/color"); got != "blue" {
		t.Errorf("color %q", got)
	}
	c.apply(fmt.Sprintf(configMap, "green"))
	c.kubectl("-n", c.namespace, "label", "pod", "app", "--overwrite", "tier=back")
	deadline := time.Now().Add(patience)
	for get(t, url+"/etc/app/cfg/color") != "green" || get(t, url+"/etc/info/labels") != `tier="back"` {
		if time.Now().After(deadline) {
			t.Fatalf("still color %q, labels %q", get(t, url+"/etc/app/cfg/color"), get(t, url+"/etc/info/labels"))
		}
	}
}

func TestInsideMissingThingsAreNamedAndAwaited(t *testing.T) {
	c := inside(t)
	t.Parallel()
	c.apply(`
apiVersion: v1
kind: Pod
metadata: {name: app}
spec:
  containers:
  - {name: known, image: "test/app:1", env: [{name: X, valueFrom: {secretKeyRef: {name: later, key: x}}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: unknown}
spec:
  containers: [{name: app, image: "nobody/knows:1"}]
`)
	waits := func(reason, message string) func(*corev1.Pod) bool {
		return func(p *corev1.Pod) bool {
			if p == nil || len(p.Status.ContainerStatuses) == 0 {
				return false
			}
			w := p.Status.ContainerStatuses[0].State.Waiting
			return w != nil && strings.HasSuffix(w.Reason, reason) && strings.Contains(w.Message, message)
		}
	}
	c.await("unknown", "told which images there are", waits("", "test/app:*"))
	c.await("app", "told which Secret is missing", waits("CreateContainerConfigError", "later"))
	c.apply(`{apiVersion: v1, kind: Secret, metadata: {name: later}, stringData: {x: secret}}`)
	c.await("app", "ready", isReady)
}

func TestInsideCrashesAreRestarted(t *testing.T) {
	c := inside(t)
	t.Parallel()
	c.apply(`
apiVersion: v1
kind: Pod
metadata: {name: app}
spec:
  containers: [{name: app, image: "test/app:1", readinessProbe: {tcpSocket: {port: 8080}}}]
`)
	pod := c.await("app", "ready", isReady)
	if response, err := http.Get("http://" + pod.Status.PodIP + ":8080/crash"); err == nil {
		_ = response.Body.Close()
		t.Error("the program did not crash")
	}
	pod = c.await("app", "restarted", func(p *corev1.Pod) bool { return isReady(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
	if last := pod.Status.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.ExitCode != 3 {
		t.Errorf("last state %+v, want exit code 3", last)
	}
	if got := c.kubectl("-n", c.namespace, "logs", "--previous", "app"); got != "serving as app\n" {
		t.Errorf("log of the previous run: %q", got)
	}
}

func TestInsideInitSidecarAndProbes(t *testing.T) {
	c := inside(t)
	t.Parallel()
	c.apply(`
apiVersion: v1
kind: Pod
metadata: {name: app}
spec:
  initContainers:
  - {name: first, image: "test/app:1", command: [sh, -c, "echo done > /work/file; echo bye > /dev/termination-log"], volumeMounts: [{name: work, mountPath: /work}]}
  - name: sidecar
    image: test/app:1
    restartPolicy: Always
    startupProbe: {httpGet: {path: /, port: 8080}}
  containers:
  - name: app
    image: test/app:1
    command: [sh, -c, "cat /work/file; hostname; test -e /tmp/restarted || { touch /tmp/restarted; }; exec sleep 1000"]
    volumeMounts: [{name: work, mountPath: /work}]
    livenessProbe: {exec: {command: ["false"]}, periodSeconds: 1, failureThreshold: 2, terminationGracePeriodSeconds: 1}
  volumes: [{name: work, emptyDir: {}}]
`)
	pod := c.await("app", "restarted by its liveness probe", func(p *corev1.Pod) bool {
		return p != nil && len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].RestartCount > 0
	})
	inits := pod.Status.InitContainerStatuses
	if end := inits[0].State.Terminated; end == nil || end.ExitCode != 0 || end.Message != "bye\n" {
		t.Errorf("first init container: %+v", inits[0].State)
	}
	if inits[1].State.Running == nil || inits[1].RestartCount != 0 {
		t.Errorf("the sidecar does not run on: %+v", inits[1])
	}
	// sleep does not handle SIGTERM, and as process 1 it is not ended by it.
	if end := pod.Status.ContainerStatuses[0].LastTerminationState.Terminated; end == nil || end.ExitCode != 137 {
		t.Errorf("last state %+v, want exit code 137", end)
	}
	if got := c.kubectl("-n", c.namespace, "logs", "app", "-c", "app"); got != "done\napp\n" {
		t.Errorf("log %q", got)
	}
}

func TestInsideGracePeriodIsKept(t *testing.T) {
	c := inside(t)
	t.Parallel()
	c.apply(`
apiVersion: v1
kind: Pod
metadata: {name: gentle}
spec:
  containers: [{name: app, image: "test/app:1", lifecycle: {preStop: {exec: {command: [sh, -c, "echo hook > /proc/1/fd/1"]}}}}]
---
apiVersion: v1
kind: Pod
metadata: {name: stubborn}
spec:
  terminationGracePeriodSeconds: 2
  containers: [{name: app, image: "test/stubborn:1"}]
`)
	c.await("gentle", "ready", isReady)
	c.await("stubborn", "ready", isReady)
	logs := exec.CommandContext(t.Context(), "kubectl", "-n", c.namespace, "logs", "-f", "gentle")
	out, err := logs.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := logs.Start(); err != nil {
		t.Fatal(err)
	}
	seen := make([]byte, len("serving as gentle\n"))
	if _, err := io.ReadFull(out, seen); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	c.kubectl("-n", c.namespace, "delete", "pod", "gentle", "stubborn", "--wait=false")
	// One that was killed would not have said that it stops.
	c.await("gentle", "gone", func(p *corev1.Pod) bool { return p == nil })
	c.await("stubborn", "gone", func(p *corev1.Pod) bool { return p == nil })
	if took := time.Since(began); took < 1900*time.Millisecond {
		t.Errorf("a pod that does not stop is gone after %s, want its grace period of 2 s", took)
	}
	rest, err := io.ReadAll(out)
	if err != nil || string(rest) != "hook\nstopping\n" {
		t.Errorf("followed log ends with %q, %v", rest, err)
	}
	_ = logs.Wait()
}

func TestInsideStatefulSetHasStableNames(t *testing.T) {
	c := inside(t)
	t.Parallel()
	c.apply(`
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: web
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: app, image: "test/app:1", readinessProbe: {tcpSocket: {port: 8080}}}]}
`)
	c.kubectl("-n", c.namespace, "rollout", "status", "statefulset/web", "--timeout="+patience.String())
	old := c.await("web-0", "ready", isReady)
	if got := get(t, "http://web-1.web."+c.namespace+".svc.cluster.local:8080/"); got != "web-1" {
		t.Errorf("web-1 answers as %q", got)
	}
	c.kubectl("-n", c.namespace, "delete", "pod", "web-0", "--grace-period=0", "--force")
	c.await("web-0", "replaced", func(p *corev1.Pod) bool { return isReady(p) && p.UID != old.UID })
	if got := c.kubectl("-n", c.namespace, "exec", "web-1", "--", "hostname"); got != "web-1\n" {
		t.Errorf("hostname %q", got)
	}
}

func TestInsideExecAndReadinessGate(t *testing.T) {
	c := inside(t)
	t.Parallel()
	c.apply(`
apiVersion: v1
kind: Pod
metadata: {name: app}
spec:
  readinessGates: [{conditionType: example.com/gate}]
  containers: [{name: app, image: "test/app:1"}]
`)
	c.await("app", "running", func(p *corev1.Pod) bool { return p != nil && p.Status.Phase == corev1.PodRunning })
	out, err := c.run("typed", "-n", c.namespace, "exec", "-i", "app", "--", "sh", "-c", "cat; exit 4")
	if out != "typed" || err == nil || !strings.Contains(err.Error(), "exit code 4") {
		t.Errorf("exec gave %q, %v", out, err)
	}
	pod, err := c.client.CoreV1().Pods(c.namespace).Get(t.Context(), "app", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if isReady(pod) {
		t.Error("ready with a closed gate")
	}
	patch := `{"status":{"conditions":[{"type":"example.com/gate","status":"True"}]}}`
	c.kubectl("-n", c.namespace, "patch", "pod", "app", "--subresource=status", "-p", patch)
	pod = c.await("app", "ready", isReady)
	for _, condition := range pod.Status.Conditions {
		if condition.Type == "example.com/gate" && condition.Status == corev1.ConditionTrue {
			return
		}
	}
	t.Errorf("the gate's condition is gone: %+v", pod.Status.Conditions)
}

// Not in parallel with the others, whose pods would be put on the node.
func TestInsideSecondNode(t *testing.T) {
	c := inside(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- node.Run(ctx, node.Config{
			Client: c.client, NodeName: "node-1", PodCIDR: "10.244.1.0/24", KubeletPort: 10251, StateDir: t.TempDir(),
			Images: map[string]node.Image{"test/other:*": {Path: self, Args: []string{"app"}}},
		})
	}()
	c.apply(`
apiVersion: v1
kind: Pod
metadata: {name: near}
spec:
  containers: [{name: app, image: "test/app:1", readinessProbe: {tcpSocket: {port: 8080}}}]
  nodeName: node-0
---
apiVersion: v1
kind: Pod
metadata: {name: far}
spec:
  nodeName: node-1
  containers: [{name: app, image: "test/other:1", readinessProbe: {tcpSocket: {port: 8080}}}]
`)
	near, far := c.await("near", "ready", isReady), c.await("far", "ready", isReady)
	if !strings.HasPrefix(far.Status.PodIP, "10.244.1.") {
		t.Errorf("the second node gave address %s", far.Status.PodIP)
	}
	for from, to := range map[*corev1.Pod]*corev1.Pod{near: far, far: near} {
		script := "exec 3<>/dev/tcp/" + to.Status.PodIP + "/8080; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; tail -n 1 <&3"
		if got := c.kubectl("-n", c.namespace, "exec", from.Name, "--", "bash", "-c", script); got != to.Name {
			t.Errorf("from %s the pod %s answers as %q", from.Name, to.Name, got)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the node ended with %v", err)
	}
	if _, err := net.DialTimeout("tcp4", far.Status.PodIP+":8080", time.Second); err == nil {
		t.Error("the pod of a node that has ended still answers")
	}
	c.kubectl("delete", "node", "node-1")
}
