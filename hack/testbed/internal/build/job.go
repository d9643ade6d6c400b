package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// job makes one component.
type job struct {
	*Builder
	component Component
	// mine is closed when this job may ask for a slot; closing next lets the
	// following one do so.
	mine     <-chan struct{}
	next     chan<- struct{}
	passOnce sync.Once
	report   *task
}

func (j *job) passTurn() { j.passOnce.Do(func() { close(j.next) }) }

// run looks on the machine, then in the cache, then builds.
func (j *job) run(ctx context.Context) (Result, error) {
	if programs, ok := findInstalled(ctx, j.component); ok {
		return Result{Programs: programs, Origin: "installed"}, nil
	}
	key, err := j.component.Recipe.Key(ctx)
	if err != nil {
		return Result{}, j.failed(err)
	}
	dir := j.dir(j.component, key)
	if key != "" && exists(dir) {
		return j.result(dir, "cache"), nil
	}
	if err := os.MkdirAll(j.cacheDir, 0o755); err != nil {
		return Result{}, j.failed(err)
	}
	unlock, err := lock(ctx, dir+".lock", func() {
		j.report.Phase("waits for another testbed that builds it")
		j.passTurn()
	})
	if err != nil {
		return Result{}, j.failed(err)
	}
	defer unlock()
	if key != "" && exists(dir) {
		return j.result(dir, "cache"), nil
	}
	if err := j.build(ctx, dir); err != nil {
		return Result{}, j.failed(err)
	}
	return j.result(dir, "built"), nil
}

// failed adds the component's name to errors that lack it.
func (j *job) failed(err error) error {
	var missing *MissingToolError
	if errors.As(err, &missing) {
		missing.Component = j.component.Name
		return missing
	}
	return fmt.Errorf("build %s: %w", j.component.Name, err)
}

// build waits for its turn and builds into a folder that takes its final name
// when it is complete, so that half a result is never seen.
func (j *job) build(ctx context.Context, dir string) error {
	j.report.Phase("is queued")
	select {
	case <-j.mine:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case j.slots <- struct{}{}:
		defer func() { <-j.slots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	// Where both could go on, select may have taken the slot that a canceled build gave back.
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	j.passTurn()
	tmp := filepath.Join(j.cacheDir, ".tmp-"+filepath.Base(dir))
	// We hold the lock: what is there was left by a builder that was killed.
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	program := filepath.Join(tmp, j.component.Name)
	if err := j.component.Recipe.Build(ctx, program, j.report); err != nil {
		return err
	}
	for _, name := range j.component.programs() {
		if name == j.component.Name {
			continue
		}
		if err := os.Symlink(j.component.Name, filepath.Join(tmp, name)); err != nil {
			return err
		}
	}
	return j.publish(tmp, dir)
}

// publish moves the finished folder into place, or, if an older result is
// there, replaces its program: a testbed that runs it keeps the old file.
func (j *job) publish(tmp, dir string) error {
	if !exists(dir) {
		return os.Rename(tmp, dir)
	}
	return os.Rename(filepath.Join(tmp, j.component.Name), filepath.Join(dir, j.component.Name))
}

func (j *job) result(dir, origin string) Result {
	programs := map[string]string{}
	for _, name := range j.component.programs() {
		programs[name] = filepath.Join(dir, name)
	}
	return Result{Programs: programs, Origin: origin}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
