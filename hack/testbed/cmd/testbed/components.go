package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"

	"flagger.app/flagger/hack/testbed/internal/addon"
	"flagger.app/flagger/hack/testbed/internal/build"
	"flagger.app/flagger/hack/testbed/internal/cluster"
	"flagger.app/flagger/hack/testbed/internal/demo"
	"flagger.app/flagger/hack/testbed/internal/examples"
	"flagger.app/flagger/hack/testbed/internal/gateway"
	"flagger.app/flagger/hack/testbed/internal/prometheus"
)

// controlPlane is the component that every testbed needs.
const controlPlane = "controlplane"

// kubernetesVersion is what tools/controlplane/go.mod pins.
const (
	kubernetesMajor, kubernetesMinor = 1, 36
	kubernetesVersion                = "v1.36.3"
)

// components lists everything that can be built. root is the folder of this
// module.
func components(root string) []build.Component {
	all := []build.Component{
		{
			Name:      controlPlane,
			Programs:  []string{cluster.Etcd, cluster.APIServer, cluster.ControllerManager, cluster.Scheduler, "kubectl"},
			Installed: installedControlPlane(),
			Recipe: build.GoModule{
				Dir: filepath.Join(root, "tools", "controlplane"), Package: ".", LDFlags: versionFlags(),
			},
		},
		{
			Name: prometheus.Program,
			Installed: []build.Installed{{
				Program: prometheus.Program, VersionArgs: []string{"--version"},
				Version: regexp.MustCompile(`prometheus, version (\d+)\.(\d+)`), Major: 3, MaxMinor: 1000,
			}},
			Recipe: build.GoModule{
				Dir:     filepath.Join(root, "tools", "prometheus"),
				Package: "github.com/prometheus/prometheus/cmd/prometheus",
				// All but one kind of service discovery left out halves the build.
				Tags: []string{"remove_all_sd", "enable_kubernetes_sd"},
			},
		},
	}
	all = append(all, gateway.Components(root)...)
	all = append(all, examples.Components(root)...)
	// What writes to a gateway that can't be built here.
	all = append(all, build.Component{Name: "apisix-ingress-controller", Recipe: build.GoModule{
		Dir: filepath.Join(root, "tools", "apisix"), Package: "github.com/apache/apisix-ingress-controller",
	}})
	all = append(all, addon.Components(root)...)
	return append(all, demo.Components(root)...)
}

// versionFlags stamp the version that clients parse from /version.
func versionFlags() []string {
	stamps := map[string]string{
		"gitVersion":   kubernetesVersion,
		"gitMajor":     fmt.Sprint(kubernetesMajor),
		"gitMinor":     fmt.Sprint(kubernetesMinor),
		"gitTreeState": "clean",
	}
	var flags []string
	for _, name := range []string{"gitVersion", "gitMajor", "gitMinor", "gitTreeState"} {
		flags = append(flags, "-X k8s.io/component-base/version."+name+"="+stamps[name])
	}
	return flags
}

// installedControlPlane accepts programs of the very version line that would
// be built; API servers of other lines have other APIs and flags.
func installedControlPlane() []build.Installed {
	programs := []build.Installed{{
		Program: cluster.Etcd, VersionArgs: []string{"--version"},
		Version: regexp.MustCompile(`etcd Version: (\d+)\.(\d+)`), Major: 3, MinMinor: 5, MaxMinor: 6,
	}, {
		Program: "kubectl", VersionArgs: []string{"version", "--client"},
		Version: regexp.MustCompile(`Client Version: v(\d+)\.(\d+)`), Major: kubernetesMajor,
		MinMinor: kubernetesMinor - 1, MaxMinor: kubernetesMinor + 1,
	}}
	for _, name := range []string{cluster.APIServer, cluster.ControllerManager, cluster.Scheduler} {
		programs = append(programs, build.Installed{
			Program: name, VersionArgs: []string{"--version"},
			Version: regexp.MustCompile(`^Kubernetes v(\d+)\.(\d+)`), Major: kubernetesMajor,
			MinMinor: kubernetesMinor, MaxMinor: kubernetesMinor,
		})
	}
	return programs
}

// sourceVariable names the environment variable with the folder of this module.
const sourceVariable = "TESTBED_SOURCE"

// moduleRoot finds the source of this module: named by the environment, at or
// above the working folder, or where this program was compiled.
func moduleRoot() (string, error) {
	if dir := os.Getenv(sourceVariable); dir != "" {
		if !isModuleRoot(dir) {
			return "", fmt.Errorf("%s=%s is not the folder hack/testbed of the source tree", sourceVariable, dir)
		}
		return filepath.Abs(dir)
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("working folder: %w", err)
	}
	for ; ; dir = filepath.Dir(dir) {
		for _, candidate := range []string{dir, filepath.Join(dir, "hack", "testbed")} {
			if isModuleRoot(candidate) {
				return candidate, nil
			}
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	if _, file, _, ok := runtime.Caller(0); ok {
		if dir := filepath.Dir(filepath.Dir(filepath.Dir(file))); isModuleRoot(dir) {
			return dir, nil
		}
	}
	return "", errors.New("the source of the testbed is not found; call this from the source tree or set " +
		sourceVariable + " to its folder hack/testbed")
}

func isModuleRoot(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "tools", "controlplane", "go.mod"))
	return err == nil
}
