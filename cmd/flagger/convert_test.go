package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const oldRollout = `
apiVersion: apps.weave.works/v1beta1
kind: Rollout
metadata: {name: web, namespace: test}
spec:
  targetKind: Deployment
  virtualService: {name: web}
  primary: {name: web, host: web}
  canary: {name: web-canary, host: web-canary}
  canaryAnalysis: {maxWeight: 50, stepWeight: 10}
`

func TestConvert(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rollout.yaml")
	if err := os.WriteFile(file, []byte(oldRollout), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args  []string
		stdin string
		code  int
		want  string
	}{
		"a file":         {[]string{"-f", file, "-port", "80"}, "", 0, "kind: Canary"},
		"standard input": {[]string{"-f", "-", "-port", "80"}, oldRollout, 0, "kind: Canary"},
		"help":           {[]string{"-h"}, "", 0, "File with Rollouts"},
		"no port":        {[]string{"-f", file}, "", 1, file + ": document 1 (Rollout web): spec.primary.host: the port of Service web is not in the input"},
		"bad input":      {[]string{"-f", "-"}, "kind: [", 1, "standard input: document 1 is not readable"},
		"no file":        {[]string{"-f", file + "x"}, "", 1, "no such file"},
		"no flag":        {nil, "", 2, "-f is missing: name a file, or - for standard input"},
		"an argument":    {[]string{file}, "", 2, "give the file as -f FILE"},
		"a wrong port":   {[]string{"-f", file, "-port", "70000"}, "", 2, "-port is 70000: set 1 to 65535"},
		"unknown flag":   {[]string{"-g"}, "", 2, "-g"},
	} {
		t.Run(name, func(t *testing.T) {
			command := program(t, append([]string{"convert"}, test.args...)...)
			command.Stdin = strings.NewReader(test.stdin)
			out, err := command.CombinedOutput()
			if code := command.ProcessState.ExitCode(); code != test.code {
				t.Errorf("exit code %d (%v), want %d", code, err, test.code)
			}
			if !strings.Contains(string(out), test.want) {
				t.Errorf("%s\nwant %q", out, test.want)
			}
		})
	}
}
