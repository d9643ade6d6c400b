package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// What is in the program is in memory, also when nothing happens. Each of these is a fifth of it or more: templates call methods by name, so
// the linker keeps all that there are.
func TestProgramIsLean(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags", "grpcnotrace", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	if !slices.Contains(packages, "flagger.app/flagger/pkg/controller") {
		t.Fatalf("%d packages, without the controller", len(packages))
	}
	for _, heavy := range []string{"text/template", "html/template", "k8s.io/client-go/kubernetes"} {
		if slices.Contains(packages, heavy) {
			t.Errorf("the program has %s", heavy)
		}
	}
}
