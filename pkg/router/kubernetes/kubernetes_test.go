package kubernetes_test

import (
	"testing"

	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/kubernetes"
)

func TestConformance(t *testing.T) {
	conformance.Run(t, conformance.Case{Provider: kubernetes.New()})
}
