package release

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"flagger.app/flagger/hack/release/internal/rootfs"
	"flagger.app/flagger/hack/release/internal/sbom"
)

// sumsFile lists everything else that is released.
const sumsFile = "checksums.txt"

// Dist writes everything that is released into a folder, in the place of what an earlier release has left there. Nothing is there until all
// is.
func (p *Project) Dist(out string) error {
	if err := p.CheckClean(); err != nil {
		return err
	}
	if err := ours(out); err != nil {
		return err
	}
	part := out + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(part) }()
	if err := os.MkdirAll(part, 0o755); err != nil {
		return err
	}
	for _, step := range []func(string) error{p.Programs, p.Images, p.Charts, p.Manifests, writeSums} {
		if err := step(part); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	return os.Rename(part, out)
}

// ours refuses a folder that holds something else than a release: it would be removed.
func ours(out string) error {
	entries, err := os.ReadDir(out)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == sumsFile }) {
		return fmt.Errorf("%s holds other things than a release: remove it, or write to another folder", out)
	}
	return nil
}

// Programs writes an archive of each program for each platform, and beside it what it consists of.
func (p *Project) Programs(out string) error {
	chosen, err := p.chosen()
	if err != nil {
		return err
	}
	for _, on := range chosen {
		dir, err := p.build(".", p.LDFlags, on, "./cmd/flagger", "./cmd/loadtester")
		if err != nil {
			return err
		}
		for _, image := range rootfs.Images() {
			t := rootfs.Tree{}
			t.Add(
				rootfs.File{Path: image.Name, Mode: 0o755, Source: filepath.Join(dir, image.Name)},
				rootfs.File{Path: "LICENSE", Mode: 0o644, Source: filepath.Join(p.Root, "LICENSE")},
			)
			if err := writePacked(filepath.Join(out, fmt.Sprintf("%s_%s_%s.tar.gz", image.Name, p.Version, on)), t, p.Created); err != nil {
				return err
			}
			subject := sbom.Subject{Type: cdx.ComponentTypeApplication, Binaries: []string{filepath.Join(dir, image.Name)}}
			if err := p.bill(out, image.Name, on, subject); err != nil {
				return err
			}
		}
	}
	return nil
}

// Charts writes the packages of the charts, as helm package makes them, with this version. Those of our own images have it as the tag of
// the image as well.
func (p *Project) Charts(out string) error {
	charts, err := filepath.Glob(filepath.Join(p.Root, "charts", "*", "Chart.yaml"))
	if err != nil || len(charts) == 0 {
		return fmt.Errorf("no charts: %w", err)
	}
	tools, err := p.buildTools(platform{runtime.GOOS, runtime.GOARCH})
	if err != nil {
		return err
	}
	for _, chart := range charts {
		if err := p.chart(filepath.Join(tools, "helm"), filepath.Dir(chart), out); err != nil {
			return fmt.Errorf("chart %s: %w", filepath.Base(filepath.Dir(chart)), err)
		}
	}
	return nil
}

func (p *Project) chart(helm, dir, out string) error {
	name := filepath.Base(dir)
	args := []string{"package", dir, "--destination", p.Work, "--version", p.Version}
	at := slices.IndexFunc(rootfs.Images(), func(i rootfs.Image) bool { return i.Name == name })
	if at >= 0 {
		args = append(args, "--app-version", p.Version)
	}
	// What its user has set up for Helm has no say in it.
	env := []string{"HELM_CONFIG_HOME=" + p.Work, "HELM_CACHE_HOME=" + p.Work, "HELM_DATA_HOME=" + p.Work}
	p.Log("packaging chart %s", name)
	if _, err := run(p.Root, env, helm, args...); err != nil {
		return err
	}
	packed := fmt.Sprintf("%s-%s.tgz", name, p.Version)
	// Helm writes the time into it.
	t, err := readPacked(filepath.Join(p.Work, packed))
	if err != nil {
		return err
	}
	file := filepath.Join(out, "chart-"+packed)
	if err := writePacked(file, t, p.Created); err != nil {
		return err
	}
	render, err := run(p.Root, env, helm, "template", name, file)
	if err != nil {
		return err
	}
	if at >= 0 && !strings.Contains(render, rootfs.Images()[at].Repository+":"+p.Version) {
		return fmt.Errorf("%s does not install %s:%s", file, rootfs.Images()[at].Repository, p.Version)
	}
	return nil
}

// writeSums writes the SHA-256 of each file in a folder, as sha256sum does.
func writeSums(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(content), entry.Name())
	}
	return os.WriteFile(filepath.Join(dir, sumsFile), []byte(b.String()), 0o644)
}
