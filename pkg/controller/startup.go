package controller

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/dynamic"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/kube"
)

// Versions of Kubernetes that are served: from the first with the status subresource of CRDs on, before a next major one.
var (
	minKubernetes = version.MustParseGeneric("1.11.0")
	maxKubernetes = version.MustParseGeneric("2.0.0")
)

// CheckServer makes sure that the cluster is one the operator can run in: a supported version, with our CRDs, which we may
// read. The error says what to do.
func CheckServer(ctx context.Context, d kube.Versioned, client dynamic.Interface, namespace string) error {
	for _, kind := range []struct{ name, resource string }{
		{"Canary", "canaries"},
		{"MetricTemplate", "metrictemplates"},
		{"AlertProvider", "alertproviders"},
	} {
		if err := checkResource(ctx, client, namespace, kind.name, kind.resource); err != nil {
			return err
		}
	}
	info, err := d.ServerVersion()
	if err != nil {
		return fmt.Errorf("asking for the version of Kubernetes: %w", err)
	}
	v, err := version.ParseGeneric(info.GitVersion)
	if err != nil {
		return fmt.Errorf("version of Kubernetes %q: %w", info.GitVersion, err)
	}
	if v.LessThan(minKubernetes) || v.AtLeast(maxKubernetes) {
		return fmt.Errorf("unsupported version of Kubernetes %s: run the operator in a cluster from %s on and before %s", v, minKubernetes, maxKubernetes)
	}
	return nil
}

// checkResource lists one object, undecoded: an object that does not fit our types is no reason not to start.
func checkResource(ctx context.Context, client dynamic.Interface, namespace, kind, resource string) error {
	_, err := client.Resource(v1beta1.SchemeGroupVersion.WithResource(resource)).Namespace(namespace).
		List(ctx, metav1.ListOptions{Limit: 1})
	switch {
	case err == nil:
		return nil
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%s CRD is not registered: %w: apply artifacts/flagger/crd.yaml", kind, err)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%s objects can't be listed: %w: apply artifacts/flagger/account.yaml", kind, err)
	default:
		return fmt.Errorf("%s objects can't be listed: %w: check -kubeconfig and -master, and that the API server is up", kind, err)
	}
}
