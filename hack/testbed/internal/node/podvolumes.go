package node

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
)

// makeVolumes makes all volumes of the pod.
func (w *podWorker) makeVolumes(ctx context.Context) error {
	pod := w.currentPod()
	for i := range pod.Spec.Containers {
		if err := os.MkdirAll(w.containerDir(pod.Spec.Containers[i].Name), 0o755); err != nil {
			return fmt.Errorf("container directory: %w", err)
		}
	}
	for i := range pod.Spec.InitContainers {
		if err := os.MkdirAll(w.containerDir(pod.Spec.InitContainers[i].Name), 0o755); err != nil {
			return fmt.Errorf("container directory: %w", err)
		}
	}
	for i := range pod.Spec.Volumes {
		if err := w.makeVolume(ctx, &pod.Spec.Volumes[i]); err != nil {
			return fmt.Errorf("volume %s: %w", pod.Spec.Volumes[i].Name, err)
		}
	}
	return nil
}

func (w *podWorker) makeVolume(ctx context.Context, v *corev1.Volume) error {
	dir := filepath.Join(w.volumesDir(), v.Name)
	switch {
	case v.EmptyDir != nil:
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return err
		}
		return os.Chmod(dir, 0o777)
	case v.HostPath != nil:
		return makeHostPath(v.HostPath)
	case isProjected(v):
		content, err := volumePayload(v, w.facts(), w.agent.liveObjects(ctx, w.namespace), w.token(ctx))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		w.contents[v.Name] = content
		return writePayload(dir, content)
	}
	return fmt.Errorf("its kind is not supported here; use emptyDir, configMap, secret, projected, downwardAPI or hostPath")
}

func makeHostPath(source *corev1.HostPathVolumeSource) error {
	if source.Type != nil && *source.Type == corev1.HostPathDirectoryOrCreate {
		return os.MkdirAll(source.Path, 0o755)
	}
	if source.Type != nil && *source.Type == corev1.HostPathFileOrCreate {
		f, err := os.OpenFile(source.Path, os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		return f.Close()
	}
	_, err := os.Stat(source.Path)
	return err
}

func (w *podWorker) volume(name string) *corev1.Volume {
	pod := w.currentPod()
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Name == name {
			return &pod.Spec.Volumes[i]
		}
	}
	return nil
}

func (w *podWorker) isReadOnlyVolume(name string) bool {
	v := w.volume(name)
	return v != nil && isProjected(v)
}

// volumeSource is the directory or file on this machine behind a mount.
func (w *podWorker) volumeSource(m corev1.VolumeMount, env map[string]string) (string, error) {
	v := w.volume(m.Name)
	if v == nil {
		return "", fmt.Errorf("volumeMount %s: the pod has no such volume", m.Name)
	}
	source := filepath.Join(w.volumesDir(), m.Name)
	if v.HostPath != nil {
		source = v.HostPath.Path
	}
	sub := m.SubPath
	if m.SubPathExpr != "" {
		sub = expand(m.SubPathExpr, env)
	}
	if sub == "" {
		return source, nil
	}
	// The data of projected volumes lies behind links, of which the mount
	// would see nothing; and its later versions are not seen, as specified.
	source = filepath.Join(source, sub)
	if real, err := filepath.EvalSymlinks(source); err == nil {
		return real, nil
	}
	if isProjected(v) {
		return "", fmt.Errorf("volumeMount %s: subPath %q: %w", m.Name, sub, fs.ErrNotExist)
	}
	if err := os.MkdirAll(source, 0o777); err != nil {
		return "", fmt.Errorf("volumeMount %s: %w", m.Name, err)
	}
	return source, nil
}

// refreshVolumes writes projected volumes anew when their sources change or a
// token gets old, until the pod stops.
func (w *podWorker) refreshVolumes() {
	for {
		kicked := w.kicked()
		timer := w.clock.NewTimer(w.tokens.nextRefresh(w.clock))
		select {
		case <-kicked:
		case <-timer.C():
		case <-w.stopCtx.Done():
		}
		timer.Stop()
		if w.stopCtx.Err() != nil {
			return
		}
		pod := w.currentPod()
		for i := range pod.Spec.Volumes {
			w.refreshVolume(&pod.Spec.Volumes[i])
		}
	}
}

// refreshVolume keeps the old content as long as the new one is not complete.
func (w *podWorker) refreshVolume(v *corev1.Volume) {
	if !isProjected(v) {
		return
	}
	content, err := volumePayload(v, w.facts(), w.agent.liveObjects(w.stopCtx, w.namespace), w.token(w.stopCtx))
	if err == nil && !reflect.DeepEqual(content, w.contents[v.Name]) {
		w.contents[v.Name] = content
		err = writePayload(filepath.Join(w.volumesDir(), v.Name), content)
	}
	if err != nil && w.stopCtx.Err() == nil {
		w.agent.log.Warn("volume not refreshed", "pod", w.key(), "volume", v.Name, "err", err)
	}
}

// tokenCache keeps the pod's tokens until it is time for new ones.
type tokenCache struct {
	mu     sync.Mutex
	tokens map[string]cachedToken
}

type cachedToken struct {
	value   string
	refresh time.Time
}

// idleRefresh is how often volumes without a token are looked at, should an
// event have been missed.
const idleRefresh = 10 * time.Minute

func (t *tokenCache) nextRefresh(clk clock.PassiveClock) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := idleRefresh
	for _, token := range t.tokens {
		next = min(next, max(time.Second, token.refresh.Sub(clk.Now())))
	}
	return next
}

// token requests tokens bound to the pod and keeps them for 80 % of their
// life, as kubelet does.
func (w *podWorker) token(ctx context.Context) tokenSource {
	return func(p *corev1.ServiceAccountTokenProjection) (string, error) {
		w.tokens.mu.Lock()
		defer w.tokens.mu.Unlock()
		key := p.Audience + " " + p.Path
		if token, ok := w.tokens.tokens[key]; ok && w.clock.Now().Before(token.refresh) {
			return token.value, nil
		}
		request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			ExpirationSeconds: p.ExpirationSeconds,
			BoundObjectRef: &authenticationv1.BoundObjectReference{
				APIVersion: "v1", Kind: "Pod", Name: w.name, UID: w.uid,
			},
		}}
		if p.Audience != "" {
			request.Spec.Audiences = []string{p.Audience}
		}
		account := w.currentPod().Spec.ServiceAccountName
		now := w.clock.Now()
		answer, err := w.agent.cfg.Client.CoreV1().ServiceAccounts(w.namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
		if err != nil {
			return "", err
		}
		if w.tokens.tokens == nil {
			w.tokens.tokens = map[string]cachedToken{}
		}
		life := answer.Status.ExpirationTimestamp.Sub(now)
		w.tokens.tokens[key] = cachedToken{answer.Status.Token, now.Add(life * 8 / 10)}
		return answer.Status.Token, nil
	}
}
