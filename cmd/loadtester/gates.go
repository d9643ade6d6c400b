package main

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"flagger.app/flagger/pkg/loadtester"
	"flagger.app/flagger/pkg/version"
)

// apiTimeout is how long the API server may take. A webhook waits for 10 seconds where it doesn't say how long.
const apiTimeout = 5 * time.Second

// openGates returns where the state of gates is kept.
func (o *options) openGates() (loadtester.Gates, error) {
	if o.gates == "" {
		return &loadtester.MemoryGates{}, nil
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.kubeconfig
	loading := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{})
	config, err := loading.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("-gates-configmap needs an API server: %w: check -kubeconfig", err)
	}
	namespace, name, found := strings.Cut(o.gates, "/")
	if !found {
		name = namespace
		// In a pod it is the namespace of that.
		if namespace, _, err = loading.Namespace(); err != nil {
			return nil, fmt.Errorf("namespace of -gates-configmap: %w: set it, as in test/gates", err)
		}
	}
	// Each gate is asked for once in an interval of its Canary.
	config.QPS, config.Burst, config.Timeout, config.UserAgent = 100, 250, apiTimeout, "flagger-loadtester/"+version.Version
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", config.Host, err)
	}
	return &loadtester.ConfigMapGates{Client: client, Namespace: namespace, Name: name}, nil
}
