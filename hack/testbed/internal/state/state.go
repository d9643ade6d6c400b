// Package state knows where testbeds keep their files, and who runs which.
package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/wait"
)

// Dir is the folder of one testbed.
type Dir string

// File names below the folder.
const (
	lockFile   = "lock"
	markerFile = "testbed-state"
)

// ControlSocket takes commands for the inside; see package remote.
func (d Dir) ControlSocket() string { return d.join("control.sock") }

// Socket leads to a web port inside.
func (d Dir) Socket(name string) string { return d.join(name + ".sock") }

// Logs is the folder of log files; Log is that of the testbed itself.
func (d Dir) Logs() string { return d.join("log") }

// Log is the log file of the testbed itself.
func (d Dir) Log() string { return d.join("log", "testbed.log") }

// SupervisorLog is the log file of a supervisor in the background.
func (d Dir) SupervisorLog() string { return d.join("log", "supervisor.log") }

// Bin is the folder of programs that commands inside find first.
func (d Dir) Bin() string { return d.join("bin") }

// Sub is a folder for the files of one part of the testbed.
func (d Dir) Sub(part string) string { return d.join(part) }

func (d Dir) join(elem ...string) string {
	return filepath.Join(append([]string{string(d)}, elem...)...)
}

// maxSocketPath is the length limit of unix socket addresses, without the
// final zero byte; see unix(7).
const maxSocketPath = 107

var validName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,38}[a-z0-9])?$`)

// Find returns the folder for --name and --state, either of which may be empty.
func Find(name, dir string) (Dir, error) {
	if dir == "" {
		if name == "" {
			name = "default"
		}
		if !validName.MatchString(name) {
			return "", fmt.Errorf("--name %q: use at most 40 lower-case letters, digits, dots and hyphens", name)
		}
		dir = filepath.Join(os.TempDir(), "flagger-testbed-"+strconv.Itoa(os.Getuid()), name)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("--state %q: %w", dir, err)
	}
	d := Dir(dir)
	if n := len(d.Socket("xxxxxxxxxxxxxxxx")); n > maxSocketPath {
		return "", fmt.Errorf("state folder %s: the path is too long for unix sockets in it; choose a shorter --state or TMPDIR", dir)
	}
	return d, nil
}

// Lock is held as long as a testbed is up. The kernel frees it however the
// supervisor ends.
type Lock struct{ file *os.File }

// Close frees the lock.
func (l *Lock) Close() error { return l.file.Close() }

// ErrInUse says that a testbed is up in the folder.
var ErrInUse = errors.New("a testbed is up here already")

// Create makes the folder empty and locks it for this process.
func (d Dir) Create() (*Lock, error) {
	if err := d.checkOwner(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	file, err := os.OpenFile(d.join(lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state folder %s: %w", d, err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("state folder %s: %w; choose another --name, or end that one by: testbed down", d, ErrInUse)
		}
		return nil, fmt.Errorf("lock state folder %s: %w", d, err)
	}
	lock := &Lock{file: file}
	if err := errors.Join(d.clear(), d.writePID(file)); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return lock, nil
}

// checkOwner refuses a parent folder that somebody else prepared for us in a
// shared temporary folder.
func (d Dir) checkOwner() error {
	parent := filepath.Dir(string(d))
	if !strings.HasPrefix(filepath.Base(parent), "flagger-testbed-") {
		return nil
	}
	if err := os.Mkdir(parent, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("state folder: %w", err)
	}
	var stat unix.Stat_t
	if err := unix.Lstat(parent, &stat); err != nil {
		return fmt.Errorf("state folder %s: %w", parent, err)
	}
	if int(stat.Uid) != os.Getuid() || stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("state folder %s belongs to somebody else; set TMPDIR or --state to a folder of your own", parent)
	}
	return nil
}

// clear removes what an earlier testbed left. It refuses to touch a folder
// that no testbed made, since --state can be any.
func (d Dir) clear() error {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return fmt.Errorf("state folder %s: %w", d, err)
	}
	_, err = os.Stat(d.join(markerFile))
	if len(entries) > 1 && errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("state folder %s is neither empty nor a testbed's; choose another --state", d)
	}
	if err := d.removeEntries(entries); err != nil {
		return fmt.Errorf("state folder %s: %w", d, err)
	}
	if err := os.WriteFile(d.join(markerFile), nil, 0o600); err != nil {
		return fmt.Errorf("state folder %s: %w", d, err)
	}
	return os.MkdirAll(d.Logs(), 0o700)
}

func (d Dir) writePID(file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return fmt.Errorf("state folder %s: %w", d, err)
	}
	if _, err := file.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0); err != nil {
		return fmt.Errorf("state folder %s: %w", d, err)
	}
	return nil
}

// Remove deletes the folder. Its lock goes last, so that nobody moves in before.
func (d Dir) Remove() error {
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove state folder: %w", err)
	}
	if err := d.removeEntries(entries); err != nil {
		return fmt.Errorf("remove state folder: %w", err)
	}
	for _, last := range []string{d.join(lockFile), string(d)} {
		if err := os.Remove(last); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove state folder: %w", err)
		}
	}
	return nil
}

// removeEntries deletes everything but the lock.
func (d Dir) removeEntries(entries []os.DirEntry) error {
	for _, entry := range entries {
		if entry.Name() == lockFile {
			continue
		}
		if err := removeAll(d.join(entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// removeAll deletes a tree in which folders may forbid their owner to read
// them, as the kernel makes them for overlay file systems.
func removeAll(path string) error {
	if err := os.RemoveAll(path); err == nil {
		return nil
	}
	_ = filepath.WalkDir(path, func(p string, entry fs.DirEntry, _ error) error {
		if entry != nil && entry.IsDir() {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(path)
}

// Supervisor returns the process that runs the testbed in this folder, 0 if none does.
func (d Dir) Supervisor() (int, error) {
	file, err := os.Open(d.join(lockFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("state folder %s: %w", d, err)
	}
	defer func() { _ = file.Close() }()
	err = unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		return 0, nil
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return 0, fmt.Errorf("state folder %s: %w", d, err)
	}
	content, err := io.ReadAll(file)
	if err != nil {
		return 0, fmt.Errorf("state folder %s: %w", d, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return 0, fmt.Errorf("state folder %s: lock file: %w", d, err)
	}
	return pid, nil
}

// WaitGone returns when no testbed is up in the folder any more.
func (d Dir) WaitGone(ctx context.Context) error {
	const every = 20 * time.Millisecond
	gone := func(context.Context) (bool, error) {
		pid, err := d.Supervisor()
		return pid == 0, err
	}
	return wait.PollUntilContextCancel(ctx, every, true, gone)
}
