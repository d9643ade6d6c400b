// Command loadtester stands for the load tester that users have beside their
// applications: it runs the commands that the webhooks of a Canary name. Those
// of type bash it answers when they have ended, the others at once, and none
// of these runs twice at the same time.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

func main() {
	port := flag.Int("port", 9090, "port to listen on")
	timeout := flag.Duration("timeout", time.Hour, "taken for the sake of users' manifests; commands end with the pod")
	level := flag.String("log-level", "info", "as well")
	flag.Parse()
	_, _ = timeout, level
	server := &http.Server{
		Addr: net.JoinHostPort("", strconv.Itoa(*port)), Handler: &tester{running: map[string]bool{}}, ReadHeaderTimeout: time.Minute,
	}
	if err := server.ListenAndServe(); err != nil {
		fmt.Fprintln(os.Stderr, "loadtester:", err)
		os.Exit(1)
	}
}

// task is what a webhook sends.
type task struct {
	Metadata struct {
		Type string `json:"type"`
		Cmd  string `json:"cmd"`
	} `json:"metadata"`
}

type tester struct {
	mu      sync.Mutex
	running map[string]bool
}

func (t *tester) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/healthz" {
		return
	}
	var asked task
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	switch asked.Metadata.Type {
	case "bash":
		if out, err := command(asked.Metadata.Cmd); err != nil {
			http.Error(w, fmt.Sprintf("command %s failed: %s: %v", asked.Metadata.Cmd, out, err), http.StatusInternalServerError)
		}
	case "", "cmd":
		w.WriteHeader(http.StatusAccepted)
		if t.begin(asked.Metadata.Cmd) {
			go t.run(asked.Metadata.Cmd)
		}
	default:
		http.Error(w, "unknown type "+asked.Metadata.Type, http.StatusBadRequest)
	}
}

// begin is false if the command runs already.
func (t *tester) begin(cmd string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running[cmd] {
		return false
	}
	t.running[cmd] = true
	return true
}

func (t *tester) run(cmd string) {
	out, err := command(cmd)
	fmt.Printf("%s: %v\n%s\n", cmd, err, out)
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.running, cmd)
}

func command(cmd string) ([]byte, error) { return exec.Command("bash", "-c", cmd).CombinedOutput() }
