// Package build makes the programs a testbed runs, from Go modules and Python
// wheels whose versions and checksums are pinned, and keeps them in a cache
// outside the source tree. A program that is on this machine already, in a
// suitable version, is used instead.
package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Component is something a testbed can use: one or more programs that are
// built together.
type Component struct {
	// Name is what users call it; it becomes a folder name.
	Name string
	// Programs are the names of the programs it consists of; empty means one
	// program, named as the component. If there are several they are one file
	// that tells by the name it is called by which one to be.
	Programs []string
	// Installed describes the programs for a search on this machine; unless it
	// covers all Programs, they are always built.
	Installed []Installed
	// Recipe builds the component.
	Recipe Recipe
}

func (c Component) programs() []string {
	if len(c.Programs) == 0 {
		return []string{c.Name}
	}
	return c.Programs
}

// Recipe is a way to build one program.
type Recipe interface {
	// Key stands for everything the result depends on. Results with the same
	// key are the same and are kept; an empty key means the recipe itself
	// finds out quickly whether anything changed, and runs each time.
	Key(ctx context.Context) (string, error)
	// Place tells apart recipes of one name with empty keys, and is ignored otherwise.
	Place() string
	// Build writes the program to the path out.
	Build(ctx context.Context, out string, progress Progress) error
}

// Result is a built or found component.
type Result struct {
	// Programs maps the names of the component's programs to their paths.
	Programs map[string]string
	// Origin is "built", "cache" or "installed".
	Origin string
}

// MissingToolError says that a tool needed for building is not on this machine.
type MissingToolError struct {
	// Tool is the name of the program, Component what it is needed for.
	Tool, Component string
	// Remedy says how to get it.
	Remedy string
}

func (e *MissingToolError) Error() string {
	return fmt.Sprintf("%s: %s is needed to build it and is not on this machine; %s", e.Component, e.Tool, e.Remedy)
}

// Options configure a [Builder].
type Options struct {
	// CacheDir is where results are kept; empty means [DefaultCacheDir].
	CacheDir string
	// Components are all that can be built.
	Components []Component
	// Reporter shows progress; nil means silence.
	Reporter *Reporter
	// Parallel is how many compilations run at once; 0 means half the cores,
	// since each of them uses more than one.
	Parallel int
}

// Builder builds components, each at most once at a time on this machine.
type Builder struct {
	cacheDir   string
	components map[string]Component
	reporter   *Reporter
	slots      chan struct{}
}

// DefaultCacheDir is flagger-testbed in the user's cache folder.
func DefaultCacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cache folder: %w; set XDG_CACHE_HOME", err)
	}
	return filepath.Join(dir, "flagger-testbed"), nil
}

// New returns a builder. Two components of one name are an error.
func New(o Options) (*Builder, error) {
	b := &Builder{cacheDir: o.CacheDir, components: map[string]Component{}, reporter: o.Reporter}
	if b.cacheDir == "" {
		dir, err := DefaultCacheDir()
		if err != nil {
			return nil, err
		}
		b.cacheDir = dir
	}
	for _, c := range o.Components {
		if _, ok := b.components[c.Name]; ok {
			return nil, fmt.Errorf("component %s is registered twice", c.Name)
		}
		b.components[c.Name] = c
	}
	parallel := o.Parallel
	if parallel == 0 {
		parallel = max(1, runtime.NumCPU()/2)
	}
	b.slots = make(chan struct{}, parallel)
	return b, nil
}

// Names are the names of all components in alphabetical order.
func (b *Builder) Names() []string {
	names := make([]string, 0, len(b.components))
	for name := range b.components {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Available tells whether Start would have the component at once, without
// building or downloading anything.
func (b *Builder) Available(ctx context.Context, name string) (bool, error) {
	c, ok := b.components[name]
	if !ok {
		return false, fmt.Errorf("unknown component %s", name)
	}
	if _, ok := findInstalled(ctx, c); ok {
		return true, nil
	}
	key, err := c.Recipe.Key(ctx)
	if err != nil {
		return false, fmt.Errorf("component %s: %w", name, err)
	}
	return key != "" && exists(b.dir(c, key)), nil
}

// dir is the place of a result in the cache.
func (b *Builder) dir(c Component, key string) string {
	if key == "" {
		key = c.Recipe.Place()
	}
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(b.cacheDir, c.Name+"-"+hex.EncodeToString(sum[:6]))
}

// Handle stands for a component in the making.
type Handle struct {
	name   string
	done   chan struct{}
	result Result
	err    error
}

// Name is the name of the component.
func (h *Handle) Name() string { return h.name }

// Done is closed when the component is there or has failed.
func (h *Handle) Done() <-chan struct{} { return h.done }

// Wait returns the component when it is there.
func (h *Handle) Wait(ctx context.Context) (Result, error) {
	select {
	case <-h.done:
		return h.result, h.err
	case <-ctx.Done():
		return Result{}, fmt.Errorf("wait for %s: %w", h.name, context.Cause(ctx))
	}
}

// Start begins to make the named components, compiling in the given order, and
// returns a handle for each. Unknown names are an error and nothing begins.
func (b *Builder) Start(ctx context.Context, names ...string) (map[string]*Handle, error) {
	var unknown []string
	for _, name := range names {
		if _, ok := b.components[name]; !ok {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("unknown component %s; there are: %s",
			strings.Join(unknown, ", "), strings.Join(b.Names(), ", "))
	}
	handles := map[string]*Handle{}
	// Each build queues for a slot only after the one before it does.
	turn := make(chan struct{})
	close(turn)
	for _, name := range names {
		if handles[name] != nil {
			continue
		}
		h := &Handle{name: name, done: make(chan struct{})}
		handles[name] = h
		next := make(chan struct{})
		go func(mine <-chan struct{}) {
			defer close(h.done)
			j := job{Builder: b, component: b.components[name], mine: mine, next: next, report: b.reporter.begin(name)}
			h.result, h.err = j.run(ctx)
			j.passTurn()
			j.report.end(h.result.Origin, h.err)
		}(turn)
		turn = next
	}
	return handles, nil
}

// errBusy is returned by tryLock if another process holds the lock.
var errBusy = errors.New("locked by another process")
