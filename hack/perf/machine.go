package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ticks is how many clock ticks /proc counts in a second. It is fixed on Linux.
const ticks = 100

// usage is what was used of the processor, in clock ticks. A testbed has a process namespace of its own, so /proc has the processes of the
// testbed and nobody else's, but the sums of the whole machine.
type usage struct {
	// programs are the processes by the names of their programs, busy and all are the cores of the machine.
	programs  map[string]int
	busy, all int
}

// used reads what was used so far.
func used() (u usage, err error) {
	u.programs = map[string]int{}
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return u, err
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			// It has ended meanwhile.
			continue
		}
		name, n, err := programTicks(string(raw))
		if err != nil {
			return u, fmt.Errorf("%s: %w", file, err)
		}
		u.programs[name] += n
	}
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return u, err
	}
	u.busy, u.all, err = machineTicks(string(raw))
	return u, err
}

// programTicks reads a file /proc/PID/stat: the name of the program, and how long it was on a core.
func programTicks(stat string) (name string, n int, err error) {
	open, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return "", 0, fmt.Errorf("no name in %q", stat)
	}
	// The name may hold anything. What follows are fields 3 and on; 14 and 15 are the times of the process.
	fields := strings.Fields(stat[end+1:])
	if len(fields) < 13 {
		return "", 0, fmt.Errorf("only %d fields follow the name in %q", len(fields), stat)
	}
	for _, field := range fields[11:13] {
		more, err := strconv.Atoi(field)
		if err != nil {
			return "", 0, err
		}
		n += more
	}
	return stat[open+1 : end], n, nil
}

// machineTicks reads the first line of /proc/stat: how long the cores were busy, and how long they were there.
func machineTicks(stat string) (busy, all int, err error) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, 0, fmt.Errorf("no sums of the cores in %q", line)
	}
	// Guests, which follow, are in the first two sums already.
	for i, field := range fields[1:9] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, 0, err
		}
		all += n
		if idle := i == 3 || i == 4; !idle {
			busy += n
		}
	}
	return busy, all, nil
}

// noteUsage writes down what was used since before. A process that has ended since is one of others.
func (s *stage) noteUsage(before, after *usage) {
	s.Programs = map[string]float64{}
	ours := 0
	for name, n := range after.programs {
		if n -= before.programs[name]; n > 0 {
			s.Programs[name] = float64(n) / ticks
			ours += n
		}
	}
	if all := after.all - before.all; all > 0 {
		s.Machine = float64(after.busy-before.busy) / float64(all)
		s.Others = max(0, s.Machine-float64(ours)/float64(all))
	}
}

// programs says who used the cores, the largest first and without those that hardly count.
func (s *stage) programs() string {
	var parts []string
	names := slices.SortedFunc(maps.Keys(s.Programs), func(a, b string) int { return byValue(s.Programs, a, b) })
	for _, name := range names {
		if n := s.Programs[name]; n >= 0.1 {
			parts = append(parts, fmt.Sprintf("%s %.1f", name, n))
		}
	}
	return fmt.Sprintf("%.0f %% of all cores, %.1f %% by others; seconds of a core: %s", 100*s.Machine, 100*s.Others, strings.Join(parts, ", "))
}
