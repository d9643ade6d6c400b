package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// meshAudit has the routing objects in the audit log as each write leaves them.
const meshAudit = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: RequestResponse, verbs: [create, update, patch], resources: [{group: networking.istio.io}]}
- {level: None}
`

// meshCluster is a second cluster, that of the control plane of a mesh: an API server with an etcd of its own and nothing else. It
// shows the certificates of the testbed's API server, and lets the same clients in.
type meshCluster struct {
	testing.TB
	*bed
	dir, etcdURL, kubeconfig string
	port                     int
	server                   *program
}

// program is one that runs.
type program struct {
	cmd *exec.Cmd
	log *logBuffer
	// ended is closed when it has ended.
	ended chan struct{}
}

func (p *program) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// newMeshCluster starts a second cluster, which serves Istio and has the namespace of a team.
func newMeshCluster(t *team) *meshCluster {
	t.Helper()
	m := &meshCluster{TB: t, dir: t.TempDir(), port: freePort(t), etcdURL: fmt.Sprintf("http://127.0.0.1:%d", freePort(t))}
	peer := fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	m.run("etcd", "--name=mesh", "--data-dir="+filepath.Join(m.dir, "etcd"), "--unsafe-no-fsync", "--log-level=error",
		"--listen-client-urls="+m.etcdURL, "--advertise-client-urls="+m.etcdURL,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=mesh="+peer)
	t.must(os.WriteFile(filepath.Join(m.dir, "audit.yaml"), []byte(meshAudit), 0o600))
	m.connect()
	m.start()
	crds, err := moduleFile("istio.io/api", "kubernetes/customresourcedefinitions.gen.yaml")
	t.must(err)
	t.must(m.install(t.Context(), crds))
	_, err = m.kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: t.ns}}, metav1.CreateOptions{})
	t.must(err)
	return m
}

func freePort(t testing.TB) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// connect makes the clients of the cluster, those of the test and the kubeconfig of the operator.
func (m *meshCluster) connect() {
	m.Helper()
	file, err := clientcmd.LoadFromFile(os.Getenv("KUBECONFIG"))
	if err != nil {
		m.Fatal(err)
	}
	for _, cluster := range file.Clusters {
		cluster.Server = fmt.Sprintf("https://127.0.0.1:%d", m.port)
	}
	m.kubeconfig = filepath.Join(m.dir, "kubeconfig")
	if err := clientcmd.WriteToFile(*file, m.kubeconfig); err != nil {
		m.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", m.kubeconfig)
	if err != nil {
		m.Fatal(err)
	}
	m.bed = &bed{config: config, kube: kubernetes.NewForConfigOrDie(config), dynamic: dynamic.NewForConfigOrDie(config)}
}

// run starts a program of the testbed's control plane, which ends with the test.
func (m *meshCluster) run(name string, args ...string) *program {
	m.Helper()
	cmd := exec.Command(filepath.Join(os.Getenv("TESTBED_STATE"), "programs", "controlplane", name), args...)
	p := &program{cmd: cmd, log: &logBuffer{}, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr, cmd.Dir = p.log, p.log, m.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		m.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait()
	}()
	m.Cleanup(func() {
		p.kill()
		if text := p.log.String(); m.Failed() {
			m.Logf("what the %s of the mesh said last:\n%s", name, text[max(0, len(text)-4000):])
		}
	})
	return p
}

// start starts the API server, which finds what the one before it has stored, and waits until it serves.
func (m *meshCluster) start() {
	m.Helper()
	pki := func(name string) string { return filepath.Join(os.Getenv("TESTBED_STATE"), "pki", name) }
	m.server = m.run("kube-apiserver", "--etcd-servers="+m.etcdURL, "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", m.port),
		"--service-cluster-ip-range=10.97.0.0/16", "--advertise-address=10.244.255.1", "--endpoint-reconciler-type=none",
		"--tls-cert-file="+pki("apiserver.crt"), "--tls-private-key-file="+pki("apiserver.key"), "--client-ca-file="+pki("ca.crt"),
		"--service-account-issuer=https://mesh", "--service-account-signing-key-file="+pki("sa.key"), "--service-account-key-file="+pki("sa.pub"),
		"--authorization-mode=RBAC", "--enable-admission-plugins=OwnerReferencesPermissionEnforcement", "--audit-log-mode=blocking", "--audit-policy-file="+filepath.Join(m.dir, "audit.yaml"), "--audit-log-path="+m.log())
	var last error
	ready := func(ctx context.Context) (bool, error) {
		select {
		case <-m.server.ended:
			return false, errors.New("it has ended")
		default:
		}
		_, last = m.kube.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return last == nil, nil
	}
	if err := wait.PollUntilContextTimeout(context.Background(), 100*time.Millisecond, patience, true, ready); err != nil {
		m.Fatalf("the API server of the mesh does not get ready: %v: %v", err, last)
	}
}

// stop ends the API server as a crash would. What it has stored stays.
func (m *meshCluster) stop() { m.server.kill() }

func (m *meshCluster) log() string { return filepath.Join(m.dir, "mesh.log") }

// written returns the weights of the canary in a VirtualService, one for each time that a write has changed them.
func (m *meshCluster) written(name string) (weights []int64) {
	m.Helper()
	raw, err := os.ReadFile(m.log())
	if err != nil {
		m.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e struct{ ResponseObject json.RawMessage }
		u := unstructured.Unstructured{}
		if json.Unmarshal(lines.Bytes(), &e) != nil || u.UnmarshalJSON(e.ResponseObject) != nil || u.GetKind() != "VirtualService" || u.GetName() != name {
			continue
		}
		if canary := canaryWeight(&u); len(weights) == 0 || weights[len(weights)-1] != canary {
			weights = append(weights, canary)
		}
	}
	return weights
}

// canaryWeight is what a VirtualService gives to the canary.
func canaryWeight(u *unstructured.Unstructured) (weight int64) {
	routes, _, _ := unstructured.NestedSlice(u.Object, "spec", "http")
	for _, route := range routes {
		destinations, _, _ := unstructured.NestedSlice(route.(map[string]any), "route")
		for _, item := range destinations {
			destination := item.(map[string]any)
			if host, _, _ := unstructured.NestedString(destination, "destination", "host"); strings.HasSuffix(host, v1beta1.CanarySuffix) {
				weight, _, _ = unstructured.NestedInt64(destination, "weight")
			}
		}
	}
	return weight
}

// inMesh is the team with the objects of the other cluster.
func (m *meshCluster) inMesh(t *team) *team {
	return &team{T: t.T, bed: &bed{dynamic: m.dynamic, kube: t.kube}, ns: t.ns}
}

// outage makes everything that goes through a proxy fail in one way, for a time.
type outage struct {
	proxy *proxy
	how   atomic.Value
}

// outage returns a proxy before a cluster, through which everything goes until begin.
func (t *team) outage(config *rest.Config) *outage {
	t.Helper()
	o := &outage{}
	o.how.Store(fault(""))
	o.proxy = t.proxyTo(config)
	o.proxy.choose = func(call) fault { return o.how.Load().(fault) }
	return o
}

// begin ends all watches, too.
func (o *outage) begin(how fault) {
	o.how.Store(how)
	o.proxy.CloseClientConnections()
}

func (o *outage) end() { o.how.Store(fault("")) }
