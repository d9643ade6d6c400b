package demo

import (
	"path/filepath"

	"flagger.app/flagger/hack/testbed/internal/build"
)

// Versions of podinfo that appear in the demo.
const (
	FirstVersion  = "6.9.2"
	GoodVersion   = "6.9.3"
	FaultyVersion = "6.9.4"
)

// OperatorProgram is the component that is shown.
const OperatorProgram = "flagger"

// faultyProgram is the component that stands for the bad version.
const faultyProgram = "faulty"

// Components describes how the programs of the demo are obtained; dir is the
// folder hack/testbed.
func Components(dir string) []build.Component {
	return []build.Component{
		podinfo(dir, FirstVersion),
		podinfo(dir, GoodVersion),
		{Name: faultyProgram, Recipe: build.GoPackage{Dir: dir, Package: "./apps/faulty"}},
		{Name: OperatorProgram, Recipe: build.GoPackage{Dir: filepath.Dir(filepath.Dir(dir)), Package: "./cmd/flagger"}},
	}
}

// ComponentNames are the names of the components.
func ComponentNames() []string {
	var names []string
	for _, c := range Components("") {
		names = append(names, c.Name)
	}
	return names
}

// podinfo builds the pinned source under a version of choice, as its release
// process does; the version is in each of its answers.
func podinfo(dir, version string) build.Component {
	const module = "github.com/stefanprodan/podinfo"
	return build.Component{
		Name: "podinfo-" + version,
		Recipe: build.GoModule{
			Dir: filepath.Join(dir, "tools", "podinfo"), Package: module + "/cmd/podinfo",
			LDFlags: []string{"-X " + module + "/pkg/version.VERSION=" + version},
		},
	}
}

// podinfoImage is the image of a version, by which manifests call it.
func podinfoImage(version string) string { return "stefanprodan/podinfo:" + version }
