package release

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"flagger.app/flagger/hack/release/internal/debian"
	"flagger.app/flagger/hack/release/internal/oci"
	"flagger.app/flagger/hack/release/internal/rootfs"
)

// toolsModule has the versions of the tools that are built from Go modules.
const toolsModule = "hack/release/tools"

// packagesLock has the versions of the tools that come from Debian.
const packagesLock = "hack/release/packages.lock"

// fromDebian are the programs that commands of Canaries use: shells, what is written between pipes, and curl.
func fromDebian() []string {
	return []string{"bash", "coreutils", "curl", "findutils", "grep", "jq", "sed"}
}

// addTools adds the layers of what tasks of the load tester call.
func (p *Project) addTools(c *contents, on platform) error {
	packages, err := debian.ReadLock(filepath.Join(p.Root, packagesLock), on.arch)
	if err != nil {
		return err
	}
	archive, err := debian.Open(p.Cache)
	if err != nil {
		return err
	}
	files, err := archive.Fetch(packages)
	if err != nil {
		return err
	}
	system, err := debian.Tree(files)
	if err != nil {
		return err
	}
	dir, err := p.buildTools(on)
	if err != nil {
		return err
	}
	programs := rootfs.Tree{}
	for _, name := range []string{"helm", "kubectl"} {
		programs.Add(rootfs.File{Path: "usr/local/bin/" + name, Mode: 0o755, Source: filepath.Join(dir, name)})
		c.binaries = append(c.binaries, filepath.Join(dir, name))
	}
	c.packages = packages
	c.layers = append(c.layers, oci.Layer{Tree: system, Says: strings.Join(fromDebian(), ", ") + " of Debian"}, oci.Layer{Tree: programs, Says: "helm, kubectl"})
	return nil
}

// buildTools builds helm and kubectl, with the versions that they tell when they are asked.
func (p *Project) buildTools(on platform) (string, error) {
	versions, err := run(filepath.Join(p.Root, toolsModule), []string{"GOFLAGS=-mod=readonly"}, "go", "list", "-m", "-f", "{{.Version}}", "helm.sh/helm/v3", "k8s.io/kubectl")
	if err != nil {
		return "", err
	}
	helm, kubectl, ok := strings.Cut(versions, "\n")
	minor, isModule := strings.CutPrefix(kubectl, "v0.")
	if !ok || !isModule {
		return "", fmt.Errorf("versions of helm and kubectl in %s: %q", toolsModule, versions)
	}
	// The modules of Kubernetes 1.x are numbered 0.x.
	ldflags := []string{"-s", "-w", "-X", "helm.sh/helm/v3/internal/version.version=" + helm, "-X", "k8s.io/component-base/version.gitVersion=v1." + minor}
	number, _, _ := strings.Cut(minor, ".")
	for _, in := range []string{"lint/rules", "chartutil"} {
		ldflags = append(ldflags, "-X", "helm.sh/helm/v3/pkg/"+in+".k8sVersionMajor=1", "-X", "helm.sh/helm/v3/pkg/"+in+".k8sVersionMinor="+number)
	}
	return p.build(toolsModule, strings.Join(ldflags, " "), on, "helm.sh/helm/v3/cmd/helm", "./kubectl")
}

// LockPackages notes the versions of packages that Debian has now.
func LockPackages(root, cache string) error {
	archive, err := debian.Open(cache)
	if err != nil {
		return err
	}
	var architectures []string
	for _, on := range platforms() {
		if !slices.Contains(architectures, on.arch) {
			architectures = append(architectures, on.arch)
		}
	}
	packages, err := archive.Resolve(fromDebian(), architectures)
	if err != nil {
		return err
	}
	return debian.WriteLock(filepath.Join(root, packagesLock), packages)
}

// CacheDir is where packages stay from one build to the next.
func CacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "flagger-build", "debian"), err
}
