package main

import (
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flagger.app/flagger/hack/testbed/internal/build"
	"flagger.app/flagger/hack/testbed/internal/cluster"
	"flagger.app/flagger/hack/testbed/internal/control"
	"flagger.app/flagger/hack/testbed/internal/netns"
	"flagger.app/flagger/hack/testbed/internal/node"
	"flagger.app/flagger/hack/testbed/internal/state"
)

// asProgram makes the test binary the testbed program; see testbed in
// testbed_test.go.
const asProgram = "TESTBED_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	node.MaybeRunContainerInit()
	netns.MaybeRun(work)
	if os.Getenv(asProgram) != "" {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func TestAddImage(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		mapping string
		want    control.Image
		wantErr string
	}{
		{mapping: "a/b:*=" + program, want: control.Image{Path: program, Args: []string{}}},
		{mapping: "a:1=" + program + ",serve,--x=y", want: control.Image{Path: program, Args: []string{"serve", "--x=y"}}},
		{mapping: "a=@podinfo", want: control.Image{Component: "podinfo", Program: "podinfo", Args: []string{}}},
		{mapping: "a=@controlplane/kubectl,get", want: control.Image{Component: "controlplane", Program: "kubectl", Args: []string{"get"}}},
		{mapping: "a", wantErr: "write it as"},
		{mapping: "=x", wantErr: "write it as"},
		{mapping: "a=" + filepath.Dir(program), wantErr: "is not a program"},
		{mapping: "a=/no/such/file", wantErr: "no such file"},
	} {
		images := map[string]control.Image{}
		err := addImage(images, test.mapping)
		if test.wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), test.wantErr) {
				t.Errorf("%s: error %v, want %q", test.mapping, err, test.wantErr)
			}
			continue
		}
		name, _, _ := strings.Cut(test.mapping, "=")
		if diff := cmp.Diff(map[string]control.Image{name: test.want}, images); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", test.mapping, err, diff)
		}
	}
}

func TestAddImageFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "images.yaml")
	write := func(content string) {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a/b:*:\n  component: podinfo\n  args: [x]\n  env: {K: v}\n")
	images := map[string]control.Image{}
	want := map[string]control.Image{"a/b:*": {
		Component: "podinfo", Program: "podinfo", Args: []string{"x"}, Env: map[string]string{"K": "v"},
	}}
	if err := addImageFile(images, file); err != nil || !cmp.Equal(want, images) {
		t.Errorf("%v (-want +got):\n%s", err, cmp.Diff(want, images))
	}
	for content, part := range map[string]string{"a: {pth: /x}\n": "pth", "a: {}\n": "neither", "a: {path: /bin/sh, component: x}\n": "both"} {
		write(content)
		if err := addImageFile(images, file); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: error %v, want %q", content, err, part)
		}
	}
}

// Everything that is named anywhere exists.
func TestRegistriesFitTogether(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	builder, err := build.New(build.Options{CacheDir: t.TempDir(), Components: components(root)})
	if err != nil {
		t.Fatal(err)
	}
	images := map[string]control.Image{}
	var names []string
	for _, f := range features() {
		if slices.Contains(names, f.name) {
			t.Errorf("feature %s is registered twice", f.name)
		}
		names = append(names, f.name)
		maps.Copy(images, f.images)
		for _, component := range f.components {
			if !slices.Contains(builder.Names(), component) {
				t.Errorf("feature %s: there is no component %s", f.name, component)
			}
		}
	}
	for _, mapping := range defaultImages() {
		if err := addImage(images, mapping); err != nil {
			t.Error(err)
		}
	}
	for name, image := range images {
		for component := range maps.Values(image.Mounts) {
			if !slices.Contains(builder.Names(), component) {
				t.Errorf("image %s: there is no component %s", name, component)
			}
		}
		if image.Component != "" && !slices.Contains(builder.Names(), image.Component) {
			t.Errorf("image %s: there is no component %s", name, image.Component)
		}
	}
	if _, err := findFeatures([]string{"nothing"}); err == nil || !strings.Contains(err.Error(), names[0]) {
		t.Errorf("unknown feature: error %v, want the known ones in it", err)
	}
}

func TestInstalledControlPlaneVersions(t *testing.T) {
	printed := map[string][2]string{ // accepted, refused
		cluster.Etcd:              {"etcd Version: 3.6.8\nGit SHA: x", "etcd Version: 3.4.0"},
		cluster.APIServer:         {"Kubernetes v1.36.1", "Kubernetes v1.35.0"},
		cluster.ControllerManager: {"Kubernetes v1.36.1-rc.0", "Kubernetes v1.37.0"},
		cluster.Scheduler:         {"Kubernetes v1.36.3", "v1.36.3"},
		"kubectl":                 {"Client Version: v1.37.0\nKustomize Version: v5.8.1", "Client Version: v1.32.4-dispatcher"},
	}
	for _, i := range installedControlPlane() {
		want := printed[i.Program]
		if !i.Accepts(want[0]) || i.Accepts(want[1]) {
			t.Errorf("%s: %q accepted: %t, want true; %q accepted: %t, want false",
				i.Program, want[0], i.Accepts(want[0]), want[1], i.Accepts(want[1]))
		}
	}
}

func TestEnvironmentOfCommands(t *testing.T) {
	w := &worker{dir: state.Dir("/s"), log: slog.New(slog.DiscardHandler), plan: control.Plan{Name: "n"}, cluster: &cluster.Cluster{}}
	got := w.environment([]string{"PATH=/usr/bin", "HOME=/h", "KUBECONFIG=/theirs", "https_proxy=http://p", "A=b=c"})
	want := []string{"HOME=/h", "A=b=c", "PATH=/s/bin:/usr/bin", "KUBECONFIG=pki/admin.kubeconfig", "TESTBED_NAME=n", "TESTBED_STATE=/s"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func TestExitCodes(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for args, want := range map[string]int{
		"":                    2,
		"nonsense":            2,
		"help":                0,
		"up -h":               0,
		"up --nonsense":       2,
		"up unexpected":       1,
		"up --with nonsense":  1,
		"up --image nonsense": 1,
		"exec -- true":        1,
		"exec":                1,
		"run":                 1,
		"build nonsense":      1,
		"down":                0,
		"list":                0,
	} {
		if got := run(strings.Fields(args)); got != want {
			t.Errorf("testbed %s: exit code %d, want %d", args, got, want)
		}
	}
}
