package node

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagger.app/flagger/hack/testbed/internal/node/sandbox"
)

// Reasons as kubelet and container runtimes give them.
const (
	reasonCreating        = "ContainerCreating"
	reasonInitializing    = "PodInitializing"
	reasonErrImagePull    = "ErrImagePull"
	reasonImageBackOff    = "ImagePullBackOff"
	reasonConfigError     = "CreateContainerConfigError"
	reasonCrashLoop       = "CrashLoopBackOff"
	reasonStartError      = "StartError"
	exitStartError        = 128
	defaultPath           = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	imageBin              = "/.image/bin"
	terminationLog        = "/dev/termination-log"
	terminationLogLimit   = 4096
	fallbackMessageLimit  = 2048
	fallbackMessageLines  = 80
	maxProbeOutput        = 10 << 10
	crashBackOffFirst     = 10 * time.Second
	crashBackOffMax       = 5 * time.Minute
	crashBackOffForgotten = 10 * time.Minute
	configRetryFirst      = 500 * time.Millisecond
	configRetryMax        = 10 * time.Second
)

// container is one container of a pod through all its runs. The pod's mutex
// guards everything but spec.
type container struct {
	spec   *corev1.Container
	status corev1.ContainerStatus
	// process, env and dir are those of the current or last run.
	process *sandbox.Process
	env     []string
	dir     string
	// log of the current run and of the one before.
	log, previous *logFile
	// unready says that a failed readiness probe has been reported.
	unready bool
}

// launch is a container ready to start.
type launch struct {
	spec  sandbox.Spec
	image Image
}

// backOff gives next, then first and its doubles up to limit.
type backOff struct {
	next, first, limit time.Duration
}

func (b *backOff) delay() time.Duration {
	d := b.next
	b.next = min(max(2*d, b.first), b.limit)
	return d
}

// supervise runs the container until it has ended and again says no, or ctx
// ends. It gives the last exit code; -1 when it never ran.
func (w *podWorker) supervise(ctx context.Context, c *container, again func(code int32) bool) int32 {
	crash := backOff{first: crashBackOffFirst, limit: crashBackOffMax}
	for {
		l, ok := w.awaitLaunch(ctx, c)
		if !ok {
			return -1
		}
		began := w.clock.Now()
		ended := w.runOnce(ctx, c, l)
		if ctx.Err() != nil || !again(ended.ExitCode) {
			return ended.ExitCode
		}
		if w.clock.Since(began) > crashBackOffForgotten {
			crash.next = 0
		}
		if delay := crash.delay(); delay > 0 {
			w.event(corev1.EventTypeWarning, "BackOff", "Back-off restarting failed container %s", c.spec.Name)
			w.setWaiting(c, reasonCrashLoop, fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
				delay, c.spec.Name, w.name, w.namespace, w.uid))
			if !sleep(ctx, w.clock, delay) {
				w.setTerminated(c, *ended)
				return ended.ExitCode
			}
		}
		w.restarting(c, ended)
	}
}

// awaitLaunch tries until everything the container needs is there.
func (w *podWorker) awaitLaunch(ctx context.Context, c *container) (*launch, bool) {
	retry := backOff{next: configRetryFirst, first: configRetryFirst, limit: configRetryMax}
	var told string
	for {
		kicked := w.kicked()
		l, reason, err := w.prepare(ctx, c)
		if err == nil {
			return l, true
		}
		if ctx.Err() != nil {
			return nil, false
		}
		if reason == reasonErrImagePull && told != "" {
			reason = reasonImageBackOff
		}
		if told != err.Error() {
			told = err.Error()
			w.event(corev1.EventTypeWarning, "Failed", "Error: %s: %v", reason, err)
		}
		w.setWaiting(c, reason, told)
		timer := w.clock.NewTimer(retry.delay())
		select {
		case <-timer.C():
		case <-kicked:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return nil, false
		}
	}
}

// prepare resolves image, environment, command and mounts.
func (w *podWorker) prepare(ctx context.Context, c *container) (_ *launch, reason string, _ error) {
	image, err := resolveImage(w.agent.cfg.Images, c.spec.Image)
	if err != nil {
		return nil, reasonErrImagePull, err
	}
	env, err := w.environment(ctx, c.spec, image)
	if err != nil {
		return nil, reasonConfigError, err
	}
	argv, err := entrypoint(image, c.spec.Image, expandAll(c.spec.Command, env), expandAll(c.spec.Args, env), lookPath(env["PATH"]))
	if err != nil {
		return nil, reasonConfigError, err
	}
	mounts, err := w.mounts(c.spec, image, env)
	if err != nil {
		return nil, reasonConfigError, err
	}
	l := &launch{image: image, spec: sandbox.Spec{
		Argv: argv, Dir: orDefault(c.spec.WorkingDir, orDefault(image.WorkDir, "/")), Hostname: w.hostname(),
		Files: w.etcFiles(), Links: map[string]string{}, Mounts: mounts,
		ReadOnlyRoot: c.spec.SecurityContext != nil && isTrue(c.spec.SecurityContext.ReadOnlyRootFilesystem),
	}}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		l.spec.Env = append(l.spec.Env, name+"="+env[name])
	}
	for _, name := range imageNames(image, c.spec.Image) {
		l.spec.Links[filepath.Join(imageBin, name)] = image.Path
	}
	return l, "", nil
}

// lookPath finds a command on this machine, whose programs containers see.
func lookPath(path string) func(string) (string, error) {
	return func(command string) (string, error) {
		if strings.Contains(command, "/") {
			return exec.LookPath(filepath.Join("/", command))
		}
		for _, dir := range filepath.SplitList(path) {
			if found, err := exec.LookPath(filepath.Join(dir, command)); err == nil {
				return found, nil
			}
		}
		return "", exec.ErrNotFound
	}
}

func (w *podWorker) environment(ctx context.Context, spec *corev1.Container, image Image) (map[string]string, error) {
	services, err := w.agent.services(ctx, w.namespace)
	if err != nil {
		return nil, err
	}
	base := map[string]string{"PATH": imageBin + ":" + defaultPath, "HOME": "/", "HOSTNAME": w.hostname()}
	maps.Copy(base, image.Env)
	maps.Copy(base, serviceEnv(services, w.currentPod()))
	return containerEnv(base, spec, w.facts(), w.agent.liveObjects(ctx, w.namespace))
}

// mounts of the container: the image's, the pod's volumes, the place for its
// last words.
func (w *podWorker) mounts(spec *corev1.Container, image Image, env map[string]string) ([]sandbox.Mount, error) {
	var out []sandbox.Mount
	// /tmp and /run are private, so that a program there is not seen unless
	// it is mounted.
	if hiddenInContainer(image.Path) {
		out = append(out, sandbox.Mount{Source: image.Path, Target: image.Path, ReadOnly: true})
	}
	for _, target := range slices.Sorted(maps.Keys(image.Mounts)) {
		out = append(out, sandbox.Mount{Source: image.Mounts[target], Target: target, ReadOnly: true})
	}
	for _, m := range spec.VolumeMounts {
		source, err := w.volumeSource(m, env)
		if err != nil {
			return nil, err
		}
		out = append(out, sandbox.Mount{Source: source, Target: m.MountPath, ReadOnly: m.ReadOnly || w.isReadOnlyVolume(m.Name)})
	}
	words := w.terminationPath(spec.Name)
	if err := os.WriteFile(words, nil, 0o666); err != nil {
		return nil, fmt.Errorf("termination log: %w", err)
	}
	return append(out, sandbox.Mount{Source: words, Target: orDefault(spec.TerminationMessagePath, terminationLog)}), nil
}

func hiddenInContainer(path string) bool {
	for _, dir := range []string{"/tmp/", "/run/", "/var/tmp/", "/var/run/", "/dev/"} {
		if strings.HasPrefix(path, dir) {
			return true
		}
	}
	return false
}

// runOnce runs the container to its end.
func (w *podWorker) runOnce(ctx context.Context, c *container, l *launch) *corev1.ContainerStateTerminated {
	began := metav1.NewTime(w.clock.Now())
	process, log, err := w.spawn(c, l)
	if err != nil {
		w.event(corev1.EventTypeWarning, "Failed", "Error: %v", err)
		return w.setTerminated(c, corev1.ContainerStateTerminated{
			ExitCode: exitStartError, Reason: reasonStartError, Message: err.Error(), StartedAt: began, FinishedAt: began,
		})
	}
	w.setRunning(c, process, log, l, began)
	w.event(corev1.EventTypeNormal, "Started", "Started container %s", c.spec.Name)
	w.agent.log.Debug("container started", "pod", w.key(), "container", c.spec.Name, "pid", process.Pid())
	unhealthy := make(chan *corev1.Probe, 1)
	// Probes of a run end with it; readiness is watched until then, also
	// while the pod is asked to stop.
	runCtx, endRun := context.WithCancel(context.Background())
	healthCtx, endHealth := context.WithCancel(runCtx)
	defer endRun()
	if err := w.postStart(runCtx, c); err != nil {
		w.event(corev1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed: %v", err)
		unhealthy <- nil
	} else {
		w.watchHealth(runCtx, healthCtx, c, unhealthy)
	}
	select {
	case <-process.Done():
	case probe := <-unhealthy:
		kill, cancel := w.graceOf(probe)
		w.stopProcess(c, process, kill)
		cancel()
	case <-ctx.Done():
		endHealth()
		w.stopProcess(c, process, w.killCtx)
	}
	endHealth()
	<-process.Done()
	<-log.complete
	code, signal := process.ExitCode()
	ended := corev1.ContainerStateTerminated{
		ExitCode: int32(code), Signal: int32(signal), Reason: "Completed",
		StartedAt: began, FinishedAt: metav1.NewTime(w.clock.Now()),
	}
	if code != 0 {
		ended.Reason = "Error"
	}
	ended.Message = w.lastWords(c, log, code)
	return w.setTerminated(c, ended)
}

func (w *podWorker) spawn(c *container, l *launch) (*sandbox.Process, *logFile, error) {
	dir := w.containerDir(c.spec.Name)
	spec := l.spec
	spec.Root = filepath.Join(dir, "rootfs")
	if err := os.MkdirAll(spec.Root, 0o755); err != nil {
		return nil, nil, fmt.Errorf("container directory: %w", err)
	}
	log, err := newLogFile(filepath.Join(dir, fmt.Sprintf("%d.log", w.restarts(c))), w.clock)
	if err != nil {
		return nil, nil, err
	}
	stdout, err := log.pipe()
	if err != nil {
		return nil, nil, err
	}
	defer stdout.Close()
	stderr, err := log.pipe()
	if err != nil {
		return nil, nil, err
	}
	defer stderr.Close()
	process, err := w.agent.spawner.Start(&spec, w.network().NS, stdout, stderr)
	return process, log, err
}

// graceOf is when a container that failed its probe is killed: the probe's own
// grace period, else that of the pod.
func (w *podWorker) graceOf(probe *corev1.Probe) (context.Context, context.CancelFunc) {
	seconds := w.currentPod().Spec.TerminationGracePeriodSeconds
	if probe != nil && probe.TerminationGracePeriodSeconds != nil {
		seconds = probe.TerminationGracePeriodSeconds
	}
	grace := 30 * time.Second
	if seconds != nil {
		grace = time.Duration(*seconds) * time.Second
	}
	ctx, cancel := context.WithCancel(w.killCtx)
	timer := w.clock.AfterFunc(grace, cancel)
	return ctx, func() { timer.Stop(); cancel() }
}

// stopProcess is preStop hook, SIGTERM, and SIGKILL once kill ends.
func (w *podWorker) stopProcess(c *container, process *sandbox.Process, kill context.Context) {
	w.event(corev1.EventTypeNormal, "Killing", "Stopping container %s", c.spec.Name)
	w.preStop(kill, c, process)
	if kill.Err() != nil {
		// A hook that took all the time leaves the program a last moment, as
		// with kubelet.
		moment, cancel := context.WithCancel(context.Background())
		defer cancel()
		timer := w.clock.AfterFunc(lastMoment, cancel)
		defer timer.Stop()
		kill = moment
	}
	process.Signal(unix.SIGTERM)
	select {
	case <-process.Done():
	case <-kill.Done():
		process.Signal(unix.SIGKILL)
	}
}

// lastWords is what the container wrote to its termination log, or the end of
// its output when it failed and asked for that.
func (w *podWorker) lastWords(c *container, log *logFile, code int) string {
	words, err := os.ReadFile(w.terminationPath(c.spec.Name))
	if err == nil && len(words) > 0 {
		return string(words[:min(len(words), terminationLogLimit)])
	}
	if code == 0 || c.spec.TerminationMessagePolicy != corev1.TerminationMessageFallbackToLogsOnError {
		return ""
	}
	var out bytes.Buffer
	if err := log.copyTo(context.Background(), &out, logOptions{Tail: fallbackMessageLines}); err != nil {
		return ""
	}
	text := out.Bytes()
	return string(text[max(0, len(text)-fallbackMessageLimit):])
}

// exec runs a command in the container as it is now.
func (w *podWorker) exec(ctx context.Context, c *container, command sandbox.Command) (int, error) {
	w.mu.Lock()
	process := c.process
	running := c.status.State.Running != nil
	command.Env, command.Dir = c.env, c.dir
	w.mu.Unlock()
	if process == nil || !running {
		return 0, fmt.Errorf("container %s of pod %s does not run", c.spec.Name, w.key())
	}
	return process.Exec(ctx, command)
}

// run is exec for probes and hooks.
func (w *podWorker) runIn(c *container) execFunc {
	return func(ctx context.Context, argv []string) (int, []byte, error) {
		var output limitedBuffer
		code, err := w.exec(ctx, c, sandbox.Command{Argv: argv, Stdout: &output, Stderr: &output})
		return code, output.Bytes(), err
	}
}

// limitedBuffer keeps the beginning of an output.
type limitedBuffer struct{ buf bytes.Buffer }

func (b *limitedBuffer) Bytes() []byte { return b.buf.Bytes() }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if room := maxProbeOutput - b.buf.Len(); room > 0 {
		b.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
