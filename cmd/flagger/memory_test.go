package main

import (
	"testing"
	"testing/fstest"
)

func TestMemoryLimitIsThatOfTheContainer(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	for name, test := range map[string]struct {
		root fstest.MapFS
		env  string
		want int64
	}{
		"no control groups": {},
		"version 2, own group at the top": {root: fstest.MapFS{
			"proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("536870912\n"),
		}, want: 536870912 / 100 * 90},
		"version 2, no limit": {root: fstest.MapFS{
			"proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("max\n"),
		}},
		"version 2, the pod has less than the container": {root: fstest.MapFS{
			"proc/self/cgroup":                           file("0::/kubepods/pod1/app\n"),
			"sys/fs/cgroup/kubepods/pod1/memory.max":     file("1000\n"),
			"sys/fs/cgroup/kubepods/pod1/app/memory.max": file("2000\n"),
		}, want: 900},
		"version 1": {root: fstest.MapFS{
			"proc/self/cgroup": file("4:cpu,memory:/kubepods/pod1\n0::/\n"), "sys/fs/cgroup/memory/kubepods/pod1/memory.limit_in_bytes": file("1000\n"),
		}, want: 900},
		"version 1, own group at the top": {root: fstest.MapFS{"sys/fs/cgroup/memory/memory.limit_in_bytes": file("1000\n")}, want: 900},
		"version 1, no limit":             {root: fstest.MapFS{"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n")}},
		"the user knows better":           {root: fstest.MapFS{"sys/fs/cgroup/memory.max": file("1000\n")}, env: "300MiB"},
		"nonsense":                        {root: fstest.MapFS{"sys/fs/cgroup/memory.max": file("many\n")}},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := memoryLimit(test.root, func(string) (string, bool) { return test.env, test.env != "" })
			if got != test.want || ok != (test.want > 0) {
				t.Errorf("limit %d, %t, want %d", got, ok, test.want)
			}
		})
	}
}
