// Command release builds what is released. The Makefile calls it; docs/releasing.md tells what comes out.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"flagger.app/flagger/hack/release/internal/oci"
	"flagger.app/flagger/hack/release/internal/release"
)

const usage = `usage: release COMMAND [flags]

  dist     write all that is released into -out, from a clean tree
  check    release twice in two folders, and compare the bytes
  images   write the archive of each image into -out
  folder   write all files of the image -image into -out, for a Dockerfile
  packages note the packages of Debian for the image of the load tester, as they are now
  unpack   write what a container of the archive -archive sees into -out

`

func main() {
	err := command(os.Args[1:], os.Stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

type options struct {
	out, image, archive, architecture string
	cold                              bool
}

// command runs one command, in the tree that it is started in.
func command(args []string, stderr io.Writer) error {
	fs := flag.NewFlagSet("release", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() { fmt.Fprint(stderr, usage); fs.PrintDefaults() }
	o, p := options{}, &release.Project{}
	fs.StringVar(&p.Version, "version", "", "Version that is built.")
	fs.StringVar(&p.Revision, "revision", "", "Commit that is built. Default: the one that is checked out.")
	fs.StringVar(&p.LDFlags, "ldflags", "", "Flags of the linker for the programs of this repository.")
	fs.StringVar(&p.Root, "root", ".", "Top of the tree.")
	fs.Func("platforms", "Platforms that are built for, as in linux/amd64,linux/arm64. Default: all.", func(text string) error {
		p.Platforms = strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == ' ' })
		return nil
	})
	fs.StringVar(&o.out, "out", "dist", "Folder that is written to.")
	fs.StringVar(&o.image, "image", "", "Name of an image, for folder.")
	fs.StringVar(&o.archive, "archive", "", "Path of an archive, for unpack.")
	fs.StringVar(&o.architecture, "arch", runtime.GOARCH, "Architecture, for folder and unpack.")
	fs.BoolVar(&o.cold, "cold", false, "Compile everything anew for the second release of check.")
	if len(args) == 0 {
		fs.Usage()
		return flag.ErrHelp
	}
	if err := fs.Parse(args[1:]); err != nil {
		return flag.ErrHelp
	}
	p.Log = func(format string, args ...any) { fmt.Fprintf(stderr, format+"\n", args...) }
	return perform(args[0], p, o)
}

func perform(name string, p *release.Project, o options) error {
	out, err := filepath.Abs(o.out)
	if err != nil {
		return err
	}
	if name == "unpack" {
		_, err := oci.Unpack(o.archive, o.architecture, out)
		return err
	}
	if p.Root, err = filepath.Abs(p.Root); err != nil {
		return err
	}
	if p.Cache, err = release.CacheDir(); err != nil {
		return err
	}
	if name == "packages" {
		return release.LockPackages(p.Root, p.Cache)
	}
	if err := release.CheckVersion(p.Version); err != nil {
		return err
	}
	if err := p.FindCommit(os.LookupEnv); err != nil {
		return err
	}
	if p.Work, err = os.MkdirTemp("", "release-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(p.Work) }()
	switch name {
	case "dist":
		return p.Dist(out)
	case "check":
		return p.Check(time.Now, o.cold)
	case "images":
		return p.Images(out)
	case "folder":
		return p.Folder(o.image, o.architecture, out)
	}
	return fmt.Errorf("no command %q: release -h lists them", name)
}
