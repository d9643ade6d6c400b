package debian

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// configuration keeps apt's state apart from that of the machine: it is asked for packages of other architectures, too.
const configuration = `Dir::State "%[1]s/state";
Dir::State::status "%[1]s/status";
Dir::Cache "%[1]s/cache";
APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "root";
Acquire::Languages "none";
`

// onlyDebian leaves out what else the machine gets packages from.
const onlyDebian = `Dir::Etc::SourceList "%s";
Dir::Etc::SourceParts "-";
`

// Archive is that of Debian, asked by apt, and a folder for what has come from it.
type Archive struct {
	dir    string
	listed bool
}

// Open returns the archive that this machine gets its packages from. Files stay in dir.
func Open(dir string) (*Archive, error) {
	for _, tool := range []string{"apt-get", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("the load tester's image has packages of Debian: %w: build it on Debian, or by Dockerfile.loadtester", err)
		}
	}
	for _, sub := range []string{"files", "apt/state/lists/partial", "apt/cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	text := fmt.Sprintf(configuration, filepath.Join(dir, "apt"))
	if list := "/etc/apt/sources.list.d/debian.sources"; exists(list) {
		text += fmt.Sprintf(onlyDebian, list)
	}
	for name, content := range map[string]string{"configuration": text, "status": ""} {
		if err := os.WriteFile(filepath.Join(dir, "apt", name), []byte(content), 0o644); err != nil {
			return nil, err
		}
	}
	return &Archive{dir: dir}, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// apt runs a program of apt in a folder.
func (a *Archive) apt(in, program string, args ...string) (string, error) {
	command := exec.Command(program, args...)
	command.Dir, command.Env = in, append(os.Environ(), "APT_CONFIG="+filepath.Join(a.dir, "apt", "configuration"))
	out, err := command.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	return string(out), err
}

// list brings the lists of packages up to date, once.
func (a *Archive) list() error {
	if a.listed {
		return nil
	}
	if _, err := a.apt(a.dir, "apt-get", "-qq", "update"); err != nil {
		return fmt.Errorf("apt-get update: %w", err)
	}
	a.listed = true
	return nil
}

func (a *Archive) file(p Package) string {
	return filepath.Join(a.dir, "files", p.SHA256+".deb")
}

// Fetch returns the paths of the packages, in their order.
func (a *Archive) Fetch(packages []Package) ([]string, error) {
	var missing, files []string
	for _, p := range packages {
		files = append(files, a.file(p))
		if !exists(a.file(p)) {
			missing = append(missing, p.String())
		}
	}
	if len(missing) == 0 {
		return files, nil
	}
	if err := a.list(); err != nil {
		return nil, err
	}
	temp, err := os.MkdirTemp(a.dir, "download-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(temp) }()
	if _, err := a.apt(temp, "apt-get", append([]string{"-qq", "download"}, missing...)...); err != nil {
		return nil, fmt.Errorf("packages of packages.lock: %w: Debian may have newer ones by now, which make release-packages notes", err)
	}
	for _, p := range packages {
		if exists(a.file(p)) {
			continue
		}
		if err := a.keep(p, temp); err != nil {
			return nil, fmt.Errorf("package %s: %w", p, err)
		}
	}
	return files, nil
}

// keep takes a file that has come, if it is the one that was noted.
func (a *Archive) keep(p Package, from string) error {
	found, err := filepath.Glob(filepath.Join(from, p.Name+"_*_"+p.Architecture+".deb"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("apt-get has brought %q: %w", found, err)
	}
	content, err := os.Open(found[0])
	if err != nil {
		return err
	}
	defer func() { _ = content.Close() }()
	hash := sha256.New()
	if _, err := io.Copy(hash, content); err != nil {
		return err
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); sum != p.SHA256 {
		return fmt.Errorf("its SHA-256 is %s, packages.lock has %s", sum, p.SHA256)
	}
	return os.Rename(found[0], a.file(p))
}

// unneeded are packages that others name and whose files nothing here uses: they install, configure, or hold texts only.
func unneeded(name string) bool {
	return slices.Contains([]string{"base-files", "debianutils", "dpkg", "install-info", "debconf", "gcc-12-base", "libsasl2-modules-db", "libc-bin"}, name)
}

// Resolve finds the packages that the named ones need, with their newest versions, for each architecture.
func (a *Archive) Resolve(names, architectures []string) ([]Package, error) {
	if err := a.list(); err != nil {
		return nil, err
	}
	var packages []Package
	for _, architecture := range architectures {
		seen := map[string]bool{}
		for wanted := names; len(wanted) > 0; {
			var found []string
			for _, name := range wanted {
				if !seen[name] && !unneeded(name) {
					seen[name] = true
					found = append(found, name+":"+architecture)
				}
			}
			if len(found) == 0 {
				break
			}
			out, err := a.apt(a.dir, "apt-cache", append([]string{"show", "--no-all-versions"}, found...)...)
			if err != nil {
				return nil, fmt.Errorf("packages %q: %w", found, err)
			}
			shown, needs := parse(out, architecture)
			if len(shown) != len(found) {
				return nil, fmt.Errorf("packages %q: Debian has %v", found, shown)
			}
			packages, wanted = append(packages, shown...), needs
		}
	}
	return packages, nil
}

// parse reads what apt-cache shows: packages, and the names of what they need, of alternatives the first.
func parse(out, architecture string) (packages []Package, needs []string) {
	for record := range strings.SplitSeq(strings.TrimSpace(out), "\n\n") {
		p := Package{Architecture: architecture}
		for line := range strings.Lines(record) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch key {
			case "Package":
				p.Name = value
			case "Version":
				p.Version = value
			case "SHA256":
				p.SHA256 = value
			case "Depends", "Pre-Depends":
				for need := range strings.SplitSeq(value, ",") {
					need, _, _ = strings.Cut(strings.TrimSpace(need), " ")
					need, _, _ = strings.Cut(need, ":")
					needs = append(needs, need)
				}
			}
		}
		packages = append(packages, p)
	}
	return packages, needs
}
