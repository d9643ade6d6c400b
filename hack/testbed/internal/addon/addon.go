// Package addon runs operators of others in a testbed: KEDA, as a process
// beside the cluster, and Knative, as pods from its own manifests.
package addon

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"

	"k8s.io/client-go/rest"

	"flagger.app/flagger/hack/testbed/internal/build"
	"flagger.app/flagger/hack/testbed/internal/proc"
)

// Kind is an operator. Its value is also the name of its feature.
type Kind string

// Config says how to run an operator. All fields are required.
type Config struct {
	// Programs maps the names of the operator's components to the paths of
	// their programs and files.
	Programs map[string]string
	// Dir gets configuration, LogDir the logs.
	Dir, LogDir string
	// PKI is the folder with the certificates of the cluster.
	PKI string
	// Kubeconfig is what the operator acts with.
	Kubeconfig string
	// Admin may install custom resource definitions.
	Admin *rest.Config
}

// ComponentNames are the components of an operator.
func (k Kind) ComponentNames() []string {
	var names []string
	for _, c := range k.components("") {
		names = append(names, c.Name)
	}
	return names
}

// Images are those of the pods of an operator, with the components that have
// their programs.
func (k Kind) Images() map[string]string {
	if k == Knative {
		return knativeImages()
	}
	return nil
}

// Components describes how the parts of all operators are obtained; dir is the
// folder hack/testbed.
func Components(dir string) []build.Component {
	return append(Keda.components(dir), Knative.components(dir)...)
}

func (k Kind) components(dir string) []build.Component {
	if k == Knative {
		return knativeComponents(dir)
	}
	return kedaComponents(dir)
}

// Start installs an operator and waits until it works. The processes that it
// returns end when ctx does; what runs as a pod ends with the cluster.
func Start(ctx context.Context, kind Kind, cfg Config) ([]*proc.Process, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	if kind == Knative {
		if err := cfg.startKnative(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", kind, err)
		}
		return nil, nil
	}
	p, err := cfg.startKeda(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	return []*proc.Process{p}, nil
}

// local is an address on loopback.
func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
