package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// user is who the operator acts as, so that the audit log tells its calls apart. As a service account it is in that priority level of
	// the API server that an operator in a pod is in.
	user = "system:serviceaccount:flagger-system:flagger"
	// port serves the probes of the operator.
	port = "18080"
)

// operator is the process under test.
type operator struct{ cmd *exec.Cmd }

// operate starts the operator with default flags, and waits until it is ready.
func operate(ctx context.Context, path, dir, metrics string, args []string) (*operator, error) {
	kubeconfig := filepath.Join(dir, "kubeconfig")
	config, err := clientcmd.LoadFromFile(os.Getenv("KUBECONFIG"))
	if err != nil {
		return nil, err
	}
	for _, auth := range config.AuthInfos {
		auth.Impersonate = user
		auth.ImpersonateGroups = []string{"system:serviceaccounts", "system:serviceaccounts:flagger-system", "system:authenticated"}
	}
	if err := clientcmd.WriteToFile(*config, kubeconfig); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "flagger.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	o := &operator{cmd: exec.CommandContext(ctx, path, append([]string{
		"-kubeconfig", kubeconfig, "-mesh-provider", "gatewayapi:v1", "-metrics-server", metrics, "-port", port,
	}, args...)...)}
	o.cmd.Stdout, o.cmd.Stderr = log, log
	o.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := o.cmd.Start(); err != nil {
		return nil, err
	}
	err = wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+port+"/readyz", http.NoBody)
		if err != nil {
			return false, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false, nil //nolint:nilerr // it does not listen yet
		}
		return response.StatusCode == http.StatusOK, response.Body.Close()
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the operator does not get ready, see %s: %w", log.Name(), err), o.end())
	}
	return o, nil
}

// end ends the operator as Kubernetes would.
func (o *operator) end() error {
	if err := o.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return o.cmd.Wait()
}

// cpu is how many seconds of a core the operator has used so far.
func (o *operator) cpu() (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", o.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, n, err := programTicks(string(raw))
	return float64(n) / ticks, err
}

// resident is the memory that the operator has, in MiB.
func (o *operator) resident() (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", o.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024, err
		}
	}
	return 0, errors.New("/proc/PID/status says nothing of VmRSS")
}
