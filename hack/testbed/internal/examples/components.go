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
		{Name: "podcli", Recipe: build.GoModule{
			Dir: filepath.Join(dir, "tools", "podcli"), Package: "github.com/stefanprodan/podinfo/cmd/podcli",
		}},
		// It is hey as well.
		{Name: "loadtester", Recipe: build.GoPackage{Dir: filepath.Dir(filepath.Dir(dir)), Package: "./cmd/loadtester"}},
	}
}
