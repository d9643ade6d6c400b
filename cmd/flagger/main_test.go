package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The tests start the program itself: this process, told to be it.
const beProgram = "FLAGGER_TEST_BE_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(beProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(self, args...)
	command.Env = append(os.Environ(), beProgram+"=1")
	return command
}

func TestVersion(t *testing.T) {
	out, err := program(t, "-version").Output()
	if err != nil || string(out) != "Flagger version 0.0.0-dev revision  unknown\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestHelpIsNoFailure(t *testing.T) {
	out, err := program(t, "-help").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "-mesh-provider") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestUnknownMeshProviderListsTheKnownOnes(t *testing.T) {
	out, err := program(t, "-mesh-provider=nonsense", "-master=http://127.0.0.1:1").CombinedOutput()
	if err == nil {
		t.Error("started with an unknown provider")
	}
	if strings.Contains(string(out), "spec.provider") {
		t.Errorf("a flag is wrong, and the message is about a Canary: %s", out)
	}
	for _, want := range []string{"-mesh-provider", "nonsense", "contour", "kubernetes"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is not mentioned: %s", want, out)
		}
	}
}

func TestUnreachableAPIServerIsFatal(t *testing.T) {
	out, err := program(t, "-mesh-provider=kubernetes", "-master=http://127.0.0.1:1").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "-kubeconfig") {
		t.Errorf("%v: %s", err, out)
	}
}
