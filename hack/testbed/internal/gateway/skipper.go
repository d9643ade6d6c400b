package gateway

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"flagger.app/flagger/hack/testbed/internal/manifest"
	"flagger.app/flagger/hack/testbed/internal/proc"
)

// skipperAccount is whom Skipper reads the cluster as, with the rights that its
// documentation asks for. Its routes come from Ingresses, which need no
// definitions of their own.
const skipperAccount = `apiVersion: v1
kind: ServiceAccount
metadata: {name: skipper-ingress, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: skipper-ingress}
rules:
- {apiGroups: [networking.k8s.io], resources: [ingresses], verbs: [get, list]}
- {apiGroups: [""], resources: [services, endpoints, namespaces], verbs: [get, list]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: skipper-ingress}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: skipper-ingress}
subjects: [{kind: ServiceAccount, name: skipper-ingress, namespace: kube-system}]
`

// tokenSeconds is longer than any testbed lives.
const tokenSeconds = 7 * 24 * 3600

// skipperSpecs makes the account of Skipper, and returns the one program. It
// knows no kubeconfig files: outside of a pod it takes a token, and the
// authority from where every Go program looks for it.
func (g *Gateway) skipperSpecs(ctx context.Context) ([]proc.Spec, error) {
	applier, err := manifest.NewApplier(g.cfg.Admin)
	if err != nil {
		return nil, err
	}
	if err := applier.Apply(ctx, []byte(skipperAccount), ""); err != nil {
		return nil, err
	}
	token, authority := filepath.Join(g.cfg.Dir, "token"), filepath.Join(g.cfg.Dir, "ca.crt")
	if err := g.writeToken(ctx, token); err != nil {
		return nil, err
	}
	if err := os.WriteFile(authority, g.cfg.Admin.CAData, 0o600); err != nil {
		return nil, err
	}
	return []proc.Spec{{
		Name: skipperProgram, Path: g.cfg.Programs[skipperProgram], LogDir: g.cfg.LogDir, Dir: g.cfg.Dir, Grace: drain,
		Env: []string{"SSL_CERT_FILE=" + authority},
		Args: []string{
			"-kubernetes", "-kubernetes-url=" + g.cfg.Admin.Host, "-kubernetes-token-file=" + token,
			"-enable-kubernetes-endpointslices", "-kubernetes-https-redirect=false",
			"-address=" + Skipper.Address(g.cfg.NodeIP), "-wait-first-route-load",
			// The default of 3 s would keep traffic on pods that are about to end.
			"-source-poll-timeout=100",
			"-support-listener=" + Skipper.statsAddress(g.cfg.NodeIP),
			"-enable-prometheus-metrics", "-serve-route-metrics",
			"-histogram-metric-buckets=0.001,0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,5,10",
			"-wait-for-healthcheck-interval=0", "-access-log-disabled", "-application-log-level=WARN",
		},
	}}, nil
}

// writeToken gets a token for the account.
func (g *Gateway) writeToken(ctx context.Context, path string) error {
	client, err := kubernetes.NewForConfig(g.cfg.Admin)
	if err != nil {
		return err
	}
	seconds := int64(tokenSeconds)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	answer, err := client.CoreV1().ServiceAccounts("kube-system").CreateToken(ctx, "skipper-ingress", request, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("token for Skipper: %w", err)
	}
	return os.WriteFile(path, []byte(answer.Status.Token), 0o600)
}
