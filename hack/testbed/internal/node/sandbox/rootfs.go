package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// hostDir is where the root of the machine appears in a container, read-only.
// Everything else in the root is a symbolic link into it, or our own.
const hostDir = "/.host"

// privateDirs are empty and writable in each container.
var privateDirs = []string{"/tmp", "/run", "/var/tmp", "/dev", "/proc"}

// devices a container sees.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// maxLinks bounds the symbolic links followed on one path, as in the kernel.
const maxLinks = 40

// rootfs assembles the root directory of a container at dir.
//
// An overlay of the machine's root would be the obvious way, but in a user
// namespace the kernel refuses "/" as a lower directory (it has locked mounts
// below), and to a user who is not root the files belong to nobody, so that
// not even a directory could be made in the overlay. A tmpfs full of links
// works everywhere: a directory is a link into /.host until something is to
// be put in it, and then becomes a directory of links.
type rootfs struct {
	dir string
}

func (r rootfs) build(spec *Spec) error {
	if err := unix.Mount("tmpfs", r.dir, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", r.dir, err)
	}
	if err := r.bindHost(); err != nil {
		return err
	}
	if err := r.link("/"); err != nil {
		return err
	}
	for _, dir := range privateDirs {
		if err := r.makePrivate(dir); err != nil {
			return err
		}
	}
	if err := r.populateDev(); err != nil {
		return err
	}
	if err := r.mountProc(); err != nil {
		return err
	}
	for target, content := range spec.Files {
		if err := r.writeFile(target, content); err != nil {
			return err
		}
	}
	for target, to := range spec.Links {
		if err := r.replace(target, func(at string) error { return os.Symlink(to, at) }); err != nil {
			return fmt.Errorf("link %s: %w", target, err)
		}
	}
	for _, m := range spec.Mounts {
		if err := r.bind(m); err != nil {
			return err
		}
	}
	return nil
}

func (r rootfs) bindHost() error {
	host := r.dir + hostDir
	if err := os.Mkdir(host, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", host, err)
	}
	if err := unix.Mount("/", host, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind / on %s: %w", host, err)
	}
	return setReadOnly(host, true)
}

// setReadOnly uses mount_setattr because a classic remount has to repeat the
// flags that the user namespace locked, and those are unknown here.
func setReadOnly(path string, recursive bool) error {
	var flags uint
	if recursive {
		flags = unix.AT_RECURSIVE
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, path, flags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return fmt.Errorf("make mount %s read-only: %w", path, err)
	}
	return nil
}

// link fills the directory with links to what the machine has there.
func (r rootfs) link(dir string) error {
	entries, err := os.ReadDir(filepath.Join(r.dir, hostDir, dir))
	if err != nil {
		// A directory the user may not read stays empty.
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("list %s: %w", dir, err)
	}
	for _, entry := range entries {
		at := filepath.Join(r.dir, dir, entry.Name())
		to := filepath.Join(hostDir, dir, entry.Name())
		if entry.Type()&fs.ModeSymlink != 0 {
			if own, err := os.Readlink(filepath.Join(r.dir, to)); err == nil {
				to = own
			}
		}
		if err := os.Symlink(to, at); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("link %s: %w", at, err)
		}
	}
	return nil
}

// directory makes the container path a real directory that can be written to
// and gives its place below r.dir. Links are followed inside the container.
func (r rootfs) directory(path string) (string, error) {
	rest := strings.Split(filepath.Clean("/"+path), "/")
	current, links := "/", 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		if name == ".." {
			current = filepath.Dir(current)
			continue
		}
		next := filepath.Join(current, name)
		target, err := os.Readlink(r.dir + next)
		if err != nil {
			if err := os.Mkdir(r.dir+next, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return "", fmt.Errorf("make directory %s: %w", next, err)
			}
			current = next
			continue
		}
		if host := filepath.Join(hostDir, next); target == host {
			if err := r.materialize(next); err != nil {
				return "", err
			}
			current = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("directory %s: %w", path, unix.ELOOP)
		}
		if filepath.IsAbs(target) {
			current = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return r.dir + current, nil
}

// materialize turns the link to a directory into a directory of links.
func (r rootfs) materialize(path string) error {
	if err := os.Remove(r.dir + path); err != nil {
		return fmt.Errorf("replace link %s: %w", path, err)
	}
	if err := os.Mkdir(r.dir+path, 0o755); err != nil {
		return fmt.Errorf("make directory %s: %w", path, err)
	}
	return r.link(path)
}

func (r rootfs) makePrivate(path string) error {
	return r.replace(path, func(at string) error {
		if err := os.Mkdir(at, 0o777); err != nil {
			return fmt.Errorf("make directory %s: %w", path, err)
		}
		// Not left to the umask: /tmp is for everybody.
		return os.Chmod(at, 0o777)
	})
}

// replace makes something new at path, whose parent becomes a real directory.
func (r rootfs) replace(path string, create func(at string) error) error {
	parent, err := r.directory(filepath.Dir(path))
	if err != nil {
		return err
	}
	at := filepath.Join(parent, filepath.Base(path))
	if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return create(at)
}

func (r rootfs) writeFile(path, content string) error {
	return r.replace(path, func(at string) error {
		if err := os.WriteFile(at, []byte(content), 0o644); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		return nil
	})
}

func (r rootfs) populateDev() error {
	for _, name := range devices {
		if err := r.bind(Mount{Source: "/dev/" + name, Target: "/dev/" + name}); err != nil {
			return err
		}
	}
	links := map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
		"stderr": "/proc/self/fd/2", "pts": hostDir + "/dev/pts", "ptmx": hostDir + "/dev/ptmx",
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(r.dir, "dev", name)); err != nil {
			return fmt.Errorf("link /dev/%s: %w", name, err)
		}
	}
	return r.makePrivate("/dev/shm")
}

// mountProc shows the processes of the container. Where parts of /proc are
// masked the kernel forbids a new one, and that of the machine has to do.
func (r rootfs) mountProc() error {
	proc := r.dir + "/proc"
	if err := unix.Mount("proc", proc, "proc", 0, ""); err == nil {
		return nil
	}
	if err := unix.Mount("/proc", proc, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}

func (r rootfs) bind(m Mount) error {
	info, err := os.Stat(m.Source)
	if err != nil {
		return fmt.Errorf("mount %s: %w", m.Target, err)
	}
	at, err := r.mountPoint(m.Target, info.IsDir())
	if err != nil {
		return fmt.Errorf("mount %s: %w", m.Target, err)
	}
	if err := unix.Mount(m.Source, at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s on %s: %w", m.Source, m.Target, err)
	}
	if m.ReadOnly {
		return setReadOnly(at, true)
	}
	return nil
}

func (r rootfs) mountPoint(target string, dir bool) (string, error) {
	if dir {
		return r.directory(target)
	}
	parent, err := r.directory(filepath.Dir(target))
	if err != nil {
		return "", err
	}
	at := filepath.Join(parent, filepath.Base(target))
	if info, err := os.Lstat(at); err == nil && info.Mode().IsRegular() {
		return at, nil
	}
	if err := r.writeFile(target, ""); err != nil {
		return "", err
	}
	return at, nil
}

// enter makes dir the root of this process and forgets the old one.
func (r rootfs) enter(readOnly bool) error {
	if err := unix.Chdir(r.dir); err != nil {
		return fmt.Errorf("enter %s: %w", r.dir, err)
	}
	// The old root is stacked on the new one and then unmounted, which
	// saves a directory for it.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot root to %s: %w", r.dir, err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	if readOnly {
		return setReadOnly("/", false)
	}
	return nil
}
