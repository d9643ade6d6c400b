package main

import (
	"bytes"
	"errors"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// memoryShare is the part of the memory of its container that the runtime may use, in percent. The rest is for what the runtime
// does not count, such as the program itself.
const memoryShare = 90

// goMemoryLimit is the variable by which a user tells the runtime its limit. It wins over what the container has.
const goMemoryLimit = "GOMEMLIMIT"

// memoryLimit is the limit for the runtime that follows from the control group of this process, in bytes. It is false where there
// is none. A runtime that does not know its limit lets garbage pile up until the kernel ends the process, and the next one does
// the same again.
func memoryLimit(root fs.FS, lookup func(string) (string, bool)) (int64, bool) {
	// The runtime takes an empty one for none.
	if own, _ := lookup(goMemoryLimit); own != "" {
		return 0, false
	}
	limit := int64(math.MaxInt64)
	for _, file := range memoryFiles(root) {
		if n, ok := readLimit(root, file); ok {
			limit = min(limit, n)
		}
	}
	// Version 1 says that there is no limit by a number that no machine has.
	if limit > 1<<50 {
		return 0, false
	}
	return limit / 100 * memoryShare, true
}

// memoryFiles lists where limits of this process may stand, in both versions of control groups: those of its group and of all that
// it is in. A process that sees no more than its own group finds that at the top.
func memoryFiles(root fs.FS) []string {
	files := []string{"sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"}
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return files
	}
	for line := range strings.Lines(string(groups)) {
		// As in 0::/kubepods/pod1 or 4:memory:/kubepods/pod1.
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) < 3 {
			continue
		}
		base, name := "sys/fs/cgroup", "memory.max"
		if strings.Contains(","+parts[1]+",", ",memory,") {
			base, name = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		} else if parts[1] != "" {
			continue
		}
		for at := path.Clean("/" + parts[2]); at != "/"; at = path.Dir(at) {
			files = append(files, path.Join(base, at, name))
		}
	}
	return files
}

// readLimit reads a limit in bytes. It is false where there is none, which version 2 writes as "max".
func readLimit(root fs.FS, file string) (int64, bool) {
	text, err := fs.ReadFile(root, file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return 0, false
	}
	return n, err == nil && n > 0
}
