// Package version tells which build this is. The linker sets the variables:
//
//	go build -ldflags "-X flagger.app/flagger/pkg/version.Version=1.0.0 -X flagger.app/flagger/pkg/version.Revision=<commit>"
package version

// Version is the release, Revision the commit it was built from.
var (
	Version  = "0.0.0-dev"
	Revision = "unknown"
)
