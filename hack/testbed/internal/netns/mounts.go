package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// runDir is replaced by an empty writable folder, so that sockets of services
// on this machine (name service caches, container engines) are out of reach.
const runDir = "/run"

// etcDir holds, below runDir, the files that are mounted over those in /etc.
const etcDir = runDir + "/testbed-etc"

// setUpMounts makes /proc show only this PID namespace, /run writable, and the
// resolver ask the cluster DNS server.
func setUpMounts(stateDir string) error {
	if err := checkStateDir(stateDir); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount("tmpfs", runDir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount %s: %w", runDir, err)
	}
	if err := os.MkdirAll(etcDir, 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	for name, content := range etcFiles() {
		if err := mountFile(filepath.Join("/etc", name), content); err != nil {
			return err
		}
	}
	return nil
}

// checkStateDir refuses a folder that is about to be hidden.
func checkStateDir(dir string) error {
	if strings.HasPrefix(dir+"/", runDir+"/") {
		return fmt.Errorf("state folder %s: it cannot be below %s, which is private to the testbed; choose another by --state or TMPDIR",
			dir, runDir)
	}
	return nil
}

// etcFiles are the files in /etc that decide how names are resolved.
func etcFiles() map[string]string {
	return map[string]string{
		// ndots as in a pod; one short try, since the server is on this machine.
		"resolv.conf": "nameserver " + DNSIP + "\n" +
			"search default.svc.cluster.local svc.cluster.local cluster.local\n" +
			"options ndots:5 timeout:2 attempts:2\n",
		"hosts":         "127.0.0.1 localhost\n::1 localhost\n" + NodeIP + " testbed\n",
		"nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
	}
}

// mountFile puts content in place of the file at path. A file that does not
// exist and cannot be made (on a read-only or foreign /etc) is left out, save
// for resolv.conf, without which names would go to servers outside.
func mountFile(path, content string) error {
	source := filepath.Join(etcDir, filepath.Base(path))
	if err := os.WriteFile(source, []byte(content), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", source, err)
	}
	target, err := followLinks(path)
	if err != nil {
		return err
	}
	if _, err := os.Stat(target); errors.Is(err, os.ErrNotExist) {
		if !strings.HasPrefix(target, runDir+"/") {
			if filepath.Base(path) == "resolv.conf" {
				return fmt.Errorf("%s: create this file (it may be empty), it is replaced inside the testbed only", target)
			}
			return nil
		}
		// The link led into the /run that is hidden now: give it a target again.
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return fmt.Errorf("make folder for %s: %w", path, err)
		}
		if err := os.WriteFile(target, []byte(content), 0o644); err != nil {
			return fmt.Errorf("write %s: %w", target, err)
		}
		return nil
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount over %s: %w", target, err)
	}
	return nil
}

// followLinks resolves the symbolic links at path, though their target may not exist.
func followLinks(path string) (string, error) {
	const most = 8
	for range most {
		next, err := os.Readlink(path)
		if err != nil {
			return path, nil //nolint:nilerr // Not a link: this is the end of the chain.
		}
		if !filepath.IsAbs(next) {
			next = filepath.Join(filepath.Dir(path), next)
		}
		// /var/run is a link to /run nearly everywhere, which Readlink of the whole path does not see.
		path = strings.Replace(filepath.Clean(next), "/var/run/", runDir+"/", 1)
	}
	return "", fmt.Errorf("%s: more than %d symbolic links in a row", path, most)
}
