package state

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func testDir(t *testing.T) Dir {
	t.Helper()
	d, err := Find("", filepath.Join(t.TempDir(), "bed"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestFind(t *testing.T) {
	t.Setenv("TMPDIR", "/tmp")
	for _, test := range []struct{ name, dir, wantSuffix, wantErr string }{
		{name: "", wantSuffix: "/default"},
		{name: "a-1.b", wantSuffix: "/a-1.b"},
		{name: "../x", wantErr: "--name"},
		{name: "A", wantErr: "--name"},
		{name: "ignored", dir: "/tmp/x", wantSuffix: "/tmp/x"},
		{dir: "/" + strings.Repeat("long/", 30), wantErr: "too long for unix sockets"},
	} {
		d, err := Find(test.name, test.dir)
		switch {
		case test.wantErr != "":
			if err == nil || !strings.Contains(err.Error(), test.wantErr) {
				t.Errorf("Find(%q, %q): error %v, want one with %q", test.name, test.dir, err, test.wantErr)
			}
		case err != nil || !strings.HasSuffix(string(d), test.wantSuffix):
			t.Errorf("Find(%q, %q) = %q, %v; want …%s", test.name, test.dir, d, err, test.wantSuffix)
		}
	}
}

func TestOneTestbedPerFolder(t *testing.T) {
	d := testDir(t)
	if pid, err := d.Supervisor(); pid != 0 || err != nil {
		t.Errorf("before: supervisor %d, %v; want none", pid, err)
	}
	lock, err := d.Create()
	if err != nil {
		t.Fatal(err)
	}
	if pid, err := d.Supervisor(); pid != os.Getpid() || err != nil {
		t.Errorf("while up: supervisor %d, %v; want %d", pid, err, os.Getpid())
	}
	if _, err := d.Create(); !errors.Is(err, ErrInUse) {
		t.Errorf("second Create: error %v, want %v", err, ErrInUse)
	}
	gone := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	go func() { gone <- d.WaitGone(ctx) }()
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-gone; err != nil {
		t.Errorf("WaitGone: %v", err)
	}
	if err := d.Remove(); err != nil {
		t.Errorf("Remove: %v", err)
	}
}

func TestCreateClearsWhatACrashLeft(t *testing.T) {
	d := testDir(t)
	lock, err := d.Create()
	if err != nil {
		t.Fatal(err)
	}
	_ = lock.Close()
	// An overlay file system's work folder looks like this.
	secret := d.Sub("overlay/work")
	if err := os.MkdirAll(filepath.Join(secret, "inner"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(secret, 0); err != nil {
		t.Fatal(err)
	}
	lock, err = d.Create()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := os.Stat(d.Sub("overlay")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

func TestCreateSparesForeignFolders(t *testing.T) {
	d := testDir(t)
	if err := os.MkdirAll(d.Sub("photos"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Create(); err == nil || !strings.Contains(err.Error(), "--state") {
		t.Errorf("error %v, want a refusal that names --state", err)
	}
	if _, err := os.Stat(d.Sub("photos")); err != nil {
		t.Errorf("content is gone: %v", err)
	}
}
