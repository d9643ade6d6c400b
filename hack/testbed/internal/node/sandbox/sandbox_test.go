package sandbox

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"flagger.app/flagger/hack/testbed/internal/node/sandbox/nstest"
)

const serverEnv = "SANDBOX_TEST_SERVER"

func TestMain(m *testing.M) {
	MaybeRunInit()
	if address := os.Getenv(serverEnv); address != "" {
		serve(address)
	}
	os.Exit(nstest.Main(m.Run))
}

type container struct {
	*Process
	output *os.File
}

func (c container) text(t *testing.T) string {
	t.Helper()
	out, err := io.ReadAll(c.output)
	if err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	return string(out)
}

func start(t *testing.T, netns *os.File, spec Spec) (container, error) {
	t.Helper()
	spawner := NewSpawner()
	t.Cleanup(spawner.Close)
	spec.Root = t.TempDir()
	if spec.Env == nil {
		spec.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer write.Close()
	p, err := spawner.Start(&spec, netns, write, write)
	return container{p, read}, err
}

func newTestNetwork(t *testing.T) *Network {
	t.Helper()
	network, err := NewNetwork(netip.MustParseAddr("10.244.255.1"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = network.Close() })
	return network
}

func shell(script string) []string { return []string{"/bin/sh", "-c", script} }

func TestContainerSeesItsOwnRoot(t *testing.T) {
	network := newTestNetwork(t)
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "key"), []byte("value"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := start(t, network.Host(), Spec{
		Argv: shell(`
			cat /etc/app/config/key; echo
			cat /var/run/secrets/kubernetes.io/serviceaccount/key; echo
			cat /etc/resolv.conf
			hostname
			echo $$
			echo x > /tmp/x && ls /tmp
			grep -c root: /etc/passwd
			echo no > /etc/app/config/key || echo read-only
			echo no > /usr/x || echo usr read-only
			pwd; echo ok > file && cat file`),
		Hostname: "pod-a",
		Dir:      "/home/app",
		Files:    map[string]string{"/etc/resolv.conf": "nameserver 10.96.0.10\n"},
		Mounts: []Mount{
			{Source: data, Target: "/etc/app/config", ReadOnly: true},
			{Source: data, Target: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(c.text(t)) {
		if !strings.HasPrefix(line, "/bin/sh") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	want := "value value nameserver 10.96.0.10 pod-a 1 x 1 read-only usr read-only /home/app ok"
	if strings.Join(got, " ") != want {
		t.Errorf("container printed\n%s\nwant\n%s", strings.Join(got, " "), want)
	}
}

func TestReadOnlyRootKeepsMountsWritable(t *testing.T) {
	network := newTestNetwork(t)
	c, err := start(t, network.Host(), Spec{
		Argv:         shell("touch /x 2>/dev/null || echo denied; touch /data/x && echo written"),
		Mounts:       []Mount{{Source: t.TempDir(), Target: "/data"}},
		ReadOnlyRoot: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.text(t); got != "denied\nwritten\n" {
		t.Errorf("container printed %q", got)
	}
}

func TestMissingProgramIsAnError(t *testing.T) {
	network := newTestNetwork(t)
	_, err := start(t, network.Host(), Spec{Argv: []string{"/no/such/program"}})
	if err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("error %v does not name the program", err)
	}
}

func TestExecRunsInTheContainer(t *testing.T) {
	network := newTestNetwork(t)
	c, err := start(t, network.Host(), Spec{
		Argv:  shell("trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done"),
		Files: map[string]string{"/etc/mark": "inside"}, Hostname: "pod-b",
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c.output, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	code, err := c.Exec(context.Background(), Command{
		Argv: []string{"sh", "-c", "cat /etc/mark; hostname; cat; exit 3"},
		Env:  []string{"PATH=/usr/bin:/bin"}, Stdin: strings.NewReader("typed"), Stdout: &out, Stderr: &out,
	})
	if err != nil || code != 3 || out.String() != "insidepod-b\ntyped" {
		t.Errorf("exec gave code %d, error %v, output %q", code, err, out.String())
	}
	c.Signal(unix.SIGTERM)
	<-c.Done()
	if code, _ := c.ExitCode(); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
}

func TestContainersEndWithTheirSpawner(t *testing.T) {
	network := newTestNetwork(t)
	spawner := NewSpawner()
	spec := &Spec{Root: t.TempDir(), Argv: []string{"/bin/sleep", "1000"}, Env: []string{"PATH=/bin"}}
	p, err := spawner.Start(spec, network.Host(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	spawner.Close()
	<-p.Done()
	if _, signal := p.ExitCode(); signal != unix.SIGKILL {
		t.Errorf("ended by signal %v, want SIGKILL", signal)
	}
	if _, err := spawner.Start(spec, network.Host(), nil, nil); err == nil {
		t.Error("a closed spawner starts containers")
	}
}

func TestPodsReachEachOtherAndTheNode(t *testing.T) {
	network := newTestNetwork(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var pods []*PodNetwork
	for _, ip := range []string{"10.244.0.2", "10.244.0.3"} {
		pod, err := network.Attach(netip.MustParseAddr(ip))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = pod.Close() })
		pods = append(pods, pod)
	}
	// The same port in both pods: they must not collide.
	for _, pod := range pods {
		server, err := start(t, pod.NS, Spec{
			Argv: []string{"/server"}, Env: []string{serverEnv + "=:9898"},
			Mounts: []Mount{{Source: self, Target: "/server", ReadOnly: true}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(server.output, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	for _, from := range []*PodNetwork{network.HostNetwork(), pods[0], pods[1]} {
		for _, to := range []string{"10.244.0.2", "10.244.0.3"} {
			if got := call(t, from, to+":9898"); got != to {
				t.Errorf("%s answered as %q", to, got)
			}
		}
	}
}

// serve tells each caller the address it was called at.
func serve(address string) {
	l, err := net.Listen("tcp4", address)
	if err != nil {
		panic(err)
	}
	os.Stdout.WriteString("!")
	for {
		conn, err := l.Accept()
		if err != nil {
			panic(err)
		}
		host, _, _ := net.SplitHostPort(conn.LocalAddr().String())
		_, _ = io.WriteString(conn, host)
		_ = conn.Close()
	}
}

func call(t *testing.T, from *PodNetwork, address string) string {
	t.Helper()
	conn, err := from.Dial(address)
	if err != nil {
		t.Fatalf("dial %s: %v", address, err)
	}
	defer conn.Close()
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}
