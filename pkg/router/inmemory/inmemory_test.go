package inmemory_test

import (
	"testing"

	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/inmemory"
)

func TestConformance(t *testing.T) {
	conformance.Run(t, conformance.Case{Provider: inmemory.New(inmemory.Options{})})
}
