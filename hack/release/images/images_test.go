// Package images tries the images that make images has written: it starts what is in them, and nothing else. IMAGES is their folder.
package images

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"flagger.app/flagger/hack/release/internal/jail"
	"flagger.app/flagger/hack/release/internal/oci"
)

// unpacked is the image of a name in a folder of its own.
func unpacked(t *testing.T, name string) (string, *v1.Config) {
	t.Helper()
	dir, ok := os.LookupEnv("IMAGES")
	if !ok {
		t.Skip("IMAGES is not set: make test-images sets it")
	}
	archives, err := filepath.Glob(filepath.Join(dir, name+"-image_*.tar"))
	if err != nil || len(archives) != 1 {
		t.Fatalf("archives of %s in %s: %q, %v", name, dir, archives, err)
	}
	root := t.TempDir()
	config, err := oci.Unpack(archives[0], runtime.GOARCH, root)
	if err != nil {
		t.Fatal(err)
	}
	return root, config
}

func says(t *testing.T, root string, config *v1.Config, program ...string) string {
	t.Helper()
	out, err := jail.Command(t, root, config, program...).CombinedOutput()
	if err != nil {
		t.Errorf("%q: %v: %s", program, err, out)
	}
	return string(out)
}

// The operator of the image starts as the chart starts it, knows its version, and refuses what it does not know.
func TestOperator(t *testing.T) {
	root, config := unpacked(t, "flagger")
	version := config.Labels["org.opencontainers.image.version"]
	for _, start := range [][]string{{"./flagger", "-version"}, append(config.Entrypoint, "-version")} {
		want := fmt.Sprintf("Flagger version %s revision  %s", version, config.Labels["org.opencontainers.image.revision"])
		if got := says(t, root, config, start...); strings.TrimSpace(got) != want {
			t.Errorf("%q says %q, want %q", start, got, want)
		}
	}
	out, err := jail.Command(t, root, config, "./flagger", "-nonsense").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "nonsense") {
		t.Errorf("a flag that is not there: %v: %s", err, out)
	}
}

// Every program that docs/load-tester.md says is in the image starts there.
func TestToolsOfTheLoadTester(t *testing.T) {
	root, config := unpacked(t, "loadtester")
	page, err := os.ReadFile("../../../docs/load-tester.md")
	if err != nil {
		t.Fatal(err)
	}
	for tool, want := range map[string]string{
		"bash": "GNU bash", "curl": "https", "jq": "jq-", "helm": "v3.", "kubectl": "Client Version: v1.", "grep": "GNU grep", "sed": "GNU sed",
		"sort": "coreutils", "xargs": "findutils", "hey": "Usage", "ghz": "ghz",
	} {
		command := map[string]string{"helm": "helm version --short", "kubectl": "kubectl version --client", "hey": "hey -h; true", "ghz": "ghz --help; true"}[tool]
		if command == "" {
			command = tool + " --version"
		}
		if out := says(t, root, config, "sh", "-c", command); !strings.Contains(out, want) {
			t.Errorf("%s: no %q in %s", command, want, out)
		}
		if !strings.Contains(string(page), "`"+tool+"`") {
			t.Errorf("docs/load-tester.md does not name %s", tool)
		}
	}
}

// The load tester of the image runs a test of a Canary: a pipe in bash, with curl against a server.
func TestLoadTester(t *testing.T) {
	root, config := unpacked(t, "loadtester")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	_ = listener.Close()
	var log bytes.Buffer
	command := jail.Command(t, root, config, "./loadtester", "-port="+port, "-log-level=info", "-timeout=1h")
	command.Stdout, command.Stderr = &log, &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	url := "http://127.0.0.1:" + port
	for ready := false; !ready; {
		select {
		case err := <-ended:
			t.Fatalf("%v: %s", err, log.String())
		case <-time.After(50 * time.Millisecond):
			answer, err := http.Get(url + "/healthz")
			if ready = err == nil; ready {
				_ = answer.Body.Close()
			}
		}
	}
	for cmd, want := range map[string]int{
		"curl -s " + url + "/healthz | grep OK && hey -n 2 -c 1 " + url + "/healthz | grep 200": http.StatusOK,
		"curl -s " + url + "/healthz | grep nonsense":                                           http.StatusInternalServerError,
		"helm template --help >~/out && test -s ~/out && kubectl kustomize --help | sed -n 1p":  http.StatusOK,
	} {
		payload := fmt.Sprintf(`{"name": "podinfo", "namespace": "test", "metadata": {"type": "bash", "returnCmdOutput": "true", "cmd": %q}}`, cmd)
		answer, err := http.Post(url+"/", "application/json", strings.NewReader(payload))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s: %d, want %d: %s", cmd, answer.StatusCode, want, body)
		}
	}
	_ = command.Process.Signal(os.Interrupt)
	<-ended
}
