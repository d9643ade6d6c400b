// Package examples describes the programs of manifests that users published:
// what their load tester and their probes run.
package examples

import (
	"path/filepath"

	"flagger.app/flagger/hack/testbed/internal/build"
)

// Components describes how the programs are obtained; dir is the folder
// hack/testbed.
func Components(dir string) []build.Component {
	return []build.Component{
		{Name: "hey", Recipe: build.GoModule{Dir: filepath.Join(dir, "tools", "hey"), Package: "github.com/rakyll/hey"}},
		{Name: "podcli", Recipe: build.GoModule{
			Dir: filepath.Join(dir, "tools", "podcli"), Package: "github.com/stefanprodan/podinfo/cmd/podcli",
		}},
		{Name: "loadtester", Recipe: build.GoPackage{Dir: dir, Package: "./apps/loadtester"}},
	}
}
