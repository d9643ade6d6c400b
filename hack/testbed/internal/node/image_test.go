package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func program(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestResolveImage(t *testing.T) {
	exact, any, digest := program(t, "exact"), program(t, "any"), program(t, "digest")
	images := map[string]Image{
		"registry.example.com/app/podinfo:6.0.0":    {Path: exact},
		"registry.example.com/app/podinfo:*":        {Path: any},
		"localhost:5000/app@*":                      {Path: digest},
		"busybox:*":                                 {Path: any},
		"registry.example.com/app/not-built-yet:*":  {Path: "/no/such/program"},
		"registry.example.com/app/not-a-program:*":  {Path: "/etc/passwd"},
		"registry.example.com/app/podinfo-other:v1": {Path: digest},
	}
	for ref, want := range map[string]string{
		"registry.example.com/app/podinfo:6.0.0":                       exact,
		"registry.example.com/app/podinfo:6.0.1":                       any,
		"registry.example.com/app/podinfo":                             any,
		"registry.example.com/app/podinfo:6.0.1@sha256:0123456789abcd": any,
		"localhost:5000/app@sha256:0123":                               digest,
		"localhost:5000/app":                                           digest,
		"docker.io/library/busybox:1.36":                               any,
		"docker.io/busybox":                                            any,
	} {
		image, err := resolveImage(images, ref)
		if err != nil || image.Path != want {
			t.Errorf("%s is %q, %v; want %q", ref, image.Path, err, want)
		}
	}
	for ref, want := range map[string]string{
		"registry.example.com/app/other:1":         "known images: busybox:*, localhost:5000/app@*, registry.example.com/app/not-a-program:*",
		"registry.example.com/app/not-built-yet:1": "/no/such/program",
		"registry.example.com/app/not-a-program:1": "not an executable",
	} {
		if _, err := resolveImage(images, ref); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not say %q", ref, err, want)
		}
	}
}

func TestEntrypoint(t *testing.T) {
	image := Image{Path: "/cache/podinfo-1a2b", Args: []string{"serve"}}
	lookup := func(name string) (string, error) {
		if name == "sh" {
			return "/bin/sh", nil
		}
		return "", errors.New("not found")
	}
	for _, row := range []struct {
		name          string
		command, args []string
		want          []string
	}{
		{"nothing given", nil, nil, []string{"/cache/podinfo-1a2b", "serve"}},
		{"args go to the entrypoint", nil, []string{"-v"}, []string{"/cache/podinfo-1a2b", "serve", "-v"}},
		{"relative program of the image", []string{"./podinfo", "-p=1"}, []string{"-v"}, []string{"/cache/podinfo-1a2b", "serve", "-p=1", "-v"}},
		{"absolute program of the image", []string{"/usr/bin/podinfo"}, nil, []string{"/cache/podinfo-1a2b", "serve"}},
		{"program of the machine", []string{"sh", "-c"}, []string{"true"}, []string{"/bin/sh", "-c", "true"}},
	} {
		got, err := entrypoint(image, "registry.example.com/app/podinfo:1", row.command, row.args, lookup)
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
		}
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.name, diff)
		}
	}
	_, err := entrypoint(image, "registry.example.com/app/podinfo:1", []string{"podcli"}, nil, lookup)
	if err == nil || !strings.Contains(err.Error(), "podcli") || !strings.Contains(err.Error(), "podinfo") {
		t.Errorf("error %v names neither the command nor the programs there are", err)
	}
}
