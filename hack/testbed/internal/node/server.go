package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	"github.com/virtual-kubelet/virtual-kubelet/node/api"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	utilexec "k8s.io/utils/exec"

	"flagger.app/flagger/hack/testbed/internal/node/sandbox"
)

// streamTimeout is kubelet's for idle exec and port-forward connections.
const streamTimeout = 4 * time.Hour

// server is the part of the kubelet API that kubectl logs, exec and
// port-forward need. It asks for no credentials: only the testbed reaches it.
type server struct {
	listener net.Listener
	http     *http.Server
	once     sync.Once
}

func (a *agent) listen() (*server, error) {
	certificate, err := a.selfSigned()
	if err != nil {
		return nil, fmt.Errorf("certificate of the node: %w", err)
	}
	address := net.JoinHostPort(a.cfg.NodeIP, strconv.Itoa(int(a.cfg.KubeletPort)))
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("node API: %w; nodes that share NodeIP need different KubeletPorts", err)
	}
	handler := api.PodHandler(api.PodHandlerConfig{
		RunInContainer: a.execInContainer, GetContainerLogs: a.containerLogs, PortForward: a.portForward,
		GetPods: provider{a}.GetPods,
		GetPodsFromKubernetes: func(context.Context) ([]*corev1.Pod, error) {
			return a.pods.List(labels.Everything())
		},
		StreamIdleTimeout: streamTimeout, StreamCreationTimeout: time.Minute,
	}, true)
	return &server{
		// HTTP/1.1 only, as exec upgrades the connection.
		listener: tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}),
		http:     &http.Server{Handler: handler, ReadHeaderTimeout: 30 * time.Second},
	}, nil
}

func (s *server) serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (s *server) close() {
	s.once.Do(func() {
		_ = s.http.Close()
		_ = s.listener.Close()
	})
}

func (a *agent) selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := a.cfg.Clock.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: a.cfg.NodeName},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		IPAddresses: []net.IP{net.ParseIP(a.cfg.NodeIP)}, DNSNames: []string{a.cfg.NodeName},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

func (a *agent) container(namespace, pod, name string) (*podWorker, *container, error) {
	w := a.worker(namespace, pod)
	if w == nil {
		return nil, nil, errdefs.NotFoundf("pod %s/%s is not on this node", namespace, pod)
	}
	c := w.find(name)
	if c == nil {
		return nil, nil, errdefs.NotFoundf("pod %s/%s has no container %q", namespace, pod, name)
	}
	return w, c, nil
}

func (a *agent) containerLogs(ctx context.Context, namespace, pod, name string, opts api.ContainerLogOpts) (io.ReadCloser, error) {
	w, c, err := a.container(namespace, pod, name)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	log := c.log
	if opts.Previous {
		log = c.previous
	}
	w.mu.Unlock()
	if log == nil {
		return nil, errdefs.NotFoundf("container %q of pod %s/%s has no such log (yet)", name, namespace, pod)
	}
	chosen := logOptions{Tail: -1, LimitBytes: opts.LimitBytes, Timestamps: opts.Timestamps, Follow: opts.Follow, Since: opts.SinceTime}
	// virtual-kubelet does not tell "0 lines" from "no limit".
	if opts.Tail > 0 {
		chosen.Tail = opts.Tail
	}
	if opts.SinceSeconds > 0 {
		chosen.Since = a.cfg.Clock.Now().Add(-time.Duration(opts.SinceSeconds) * time.Second)
	}
	ctx, cancel := context.WithCancel(ctx)
	read, write := io.Pipe()
	go func() { write.CloseWithError(log.copyTo(ctx, write, chosen)) }()
	return &cancelingReader{read, cancel}, nil
}

// cancelingReader ends the copying when the reader goes.
type cancelingReader struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (r *cancelingReader) Close() error {
	r.cancel()
	return r.PipeReader.Close()
}

func (a *agent) execInContainer(ctx context.Context, namespace, pod, name string, argv []string, attach api.AttachIO) error {
	w, c, err := a.container(namespace, pod, name)
	if err != nil {
		return err
	}
	command := sandbox.Command{Argv: argv, Stdin: attach.Stdin()}
	// Not assigned directly: a nil pipe is to be a nil interface.
	if out := attach.Stdout(); out != nil {
		command.Stdout = out
	}
	if out := attach.Stderr(); out != nil {
		command.Stderr = out
	}
	var code int
	if attach.TTY() {
		code, err = w.execTerminal(ctx, c, command, attach)
	} else {
		code, err = w.exec(ctx, c, command)
	}
	if err != nil {
		return err
	}
	if code != 0 {
		return utilexec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", code), Code: code}
	}
	return nil
}

// execTerminal puts a pseudo-terminal between the command and the caller.
func (w *podWorker) execTerminal(ctx context.Context, c *container, command sandbox.Command, attach api.AttachIO) (int, error) {
	control, terminal, err := sandbox.OpenTerminal()
	if err != nil {
		return 0, err
	}
	defer control.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for {
			select {
			case size := <-attach.Resize():
				sandbox.ResizeTerminal(control, size.Width, size.Height)
			case <-ctx.Done():
				return
			}
		}
	}()
	if stdin := command.Stdin; stdin != nil {
		go func() { _, _ = io.Copy(control, stdin) }()
	}
	var shown sync.WaitGroup
	if stdout := command.Stdout; stdout != nil {
		// Ends with EIO when the last user of the terminal closes it.
		shown.Go(func() { _, _ = io.Copy(stdout, control) })
	}
	command.TTY = terminal
	code, err := w.exec(ctx, c, command)
	_ = terminal.Close()
	shown.Wait()
	return code, err
}

func (a *agent) portForward(_ context.Context, namespace, pod string, port int32, stream io.ReadWriteCloser) error {
	w := a.worker(namespace, pod)
	if w == nil || w.network() == nil {
		return errdefs.NotFoundf("pod %s/%s is not on this node", namespace, pod)
	}
	conn, err := w.network().Dial(net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	if err != nil {
		return fmt.Errorf("port %d of pod %s/%s: %w", port, namespace, pod, err)
	}
	defer conn.Close()
	go func() {
		_, _ = io.Copy(conn, stream)
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
	}()
	_, err = io.Copy(stream, conn)
	return err
}
