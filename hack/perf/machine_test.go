package main

import "testing"

func TestProgramTicks(t *testing.T) {
	name, n, err := programTicks("53 (kube (api) server) S 10 53 53 0 -1 4194560 1 2 3 4 1234 66 0 0 20 0 1 0 5")
	if err != nil || name != "kube (api) server" || n != 1300 {
		t.Errorf("%q used %d: %v", name, n, err)
	}
	for _, bad := range []string{"", "53 (sh) S 1 2", "53 (sh) S 10 53 53 0 -1 4194560 1 2 3 4 x 66 0"} {
		if _, _, err := programTicks(bad); err == nil {
			t.Errorf("%q is no fault", bad)
		}
	}
}

func TestMachineTicks(t *testing.T) {
	busy, all, err := machineTicks("cpu  100 1 20 700 50 2 3 4 9 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
	if err != nil || busy != 130 || all != 880 {
		t.Errorf("busy %d of %d: %v", busy, all, err)
	}
	for _, bad := range []string{"", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8 9"} {
		if _, _, err := machineTicks(bad); err == nil {
			t.Errorf("%q is no fault", bad)
		}
	}
}

func TestUsageOfAStage(t *testing.T) {
	before := &usage{programs: map[string]int{"etcd": 100, "gone": 50}, busy: 1000, all: 2000}
	after := &usage{programs: map[string]int{"etcd": 300, "flagger": 100}, busy: 1400, all: 2500}
	s := newStage()
	s.noteUsage(before, after)
	want := "80 % of all cores, 20.0 % by others; seconds of a core: etcd 2.0, flagger 1.0"
	if got := s.programs(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestRolls(t *testing.T) {
	for list, want := range map[string][]int{"": {200}, "100": {100}, "1%,10%,100%": {2, 20, 200}, "0.1%": {1}, "500, 3": {200, 3}} {
		got, err := parseRolls(list, 200)
		if err != nil || len(got) != len(want) {
			t.Errorf("%q: %v, %v, want %v", list, got, err, want)
			continue
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%q: %v, want %v", list, got, want)
			}
		}
	}
	for _, bad := range []string{"x", "-1", "0", "10%%", "1,,2", "NaN", "Inf"} {
		if got, err := parseRolls(bad, 200); err == nil {
			t.Errorf("%q is taken as %v", bad, got)
		}
	}
}
