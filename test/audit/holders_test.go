package audit

import (
	"strings"
	"testing"
	"time"
)

func at(seconds float64) time.Time {
	return time.Unix(0, 0).Add(time.Duration(seconds * float64(time.Second)))
}

func claim(by string, began float64, owners map[int]string) Claim {
	return Claim{By: by, Began: at(began), Answered: at(began + .1), Owners: owners}
}

func write(by string, began, ended float64) Write {
	return Write{By: by, Key: "ns/app", Shard: 1, Began: at(began), Ended: at(ended), What: "patch deployments"}
}

// TestBreaches plays logs in which a has shard 1 from second 1, and the lease lasts 10 seconds.
func TestBreaches(t *testing.T) {
	t.Parallel()
	a, b, free := map[int]string{1: "a", 2: "b"}, map[int]string{1: "b", 2: "b"}, map[int]string{2: "b"}
	given := []Claim{claim("a", 1, a), claim("a", 5, free), claim("b", 6, b)}
	killed := []Claim{claim("a", 1, a), claim("b", 3, a), claim("b", 9, a), claim("b", 12, b)}
	for name, test := range map[string]struct {
		claims []Claim
		writes []Write
		// breaches are parts of what is found, in order.
		breaches []string
	}{
		"handed over":           {claims: given, writes: []Write{write("a", 1.2, 2), write("a", 4, 4.9), write("b", 6.2, 7)}},
		"killed and taken over": {claims: killed, writes: []Write{write("a", 1.2, 2), write("a", 10.5, 10.9), write("b", 12.2, 13)}},
		"had back": {
			claims: append(given[:3:3], claim("b", 8, free), claim("a", 9, a)),
			writes: []Write{write("a", 2, 3), write("b", 7, 7.5), write("a", 9.5, 10)},
		},
		"before the answer to the claim": {claims: given, writes: []Write{write("a", 1.05, 1.2)}, breaches: []string{"never held shard 1"}},
		"never held":                     {claims: given[:2], writes: []Write{write("c", 2, 3)}, breaches: []string{"c wrote"}},
		"another shard":                  {claims: given[:2], writes: []Write{write("b", 2, 3)}, breaches: []string{"b wrote"}},
		"in flight when given up":        {claims: given, writes: []Write{write("a", 4.9, 5.1)}, breaches: []string{"held shard 1 from"}},
		"between two holders":            {claims: given, writes: []Write{write("a", 5.5, 5.6)}, breaches: []string{"held shard 1 from"}},
		"before the takeover":            {claims: given, writes: []Write{write("b", 5.5, 5.6)}, breaches: []string{"never held shard 1"}},
		"after the takeover":             {claims: killed, writes: []Write{write("a", 12.5, 13)}, breaches: []string{"held shard 1 from"}},
		"woken after the lease, before a takeover": {
			claims: killed[:3], writes: []Write{write("a", 11.5, 11.6)}, breaches: []string{"renewed its lease last at 00:00:01"},
		},
		"between two times of its own": {
			claims: append(given[:3:3], claim("b", 8, free), claim("a", 9, a)), writes: []Write{write("a", 7, 7.1)},
			breaches: []string{"held shard 1 from"},
		},
		"two at once": {
			claims: given, writes: []Write{write("b", 6.5, 7), write("a", 4, 6.6)},
			breaches: []string{"a wrote", "b wrote patch deployments at 00:00:06.500000, while a wrote"},
		},
		"two in turn, of which one holds": {
			claims: given, writes: []Write{write("b", 6.5, 7), write("a", 7, 7.5), write("b", 8, 8.5)}, breaches: []string{"a wrote"},
		},
	} {
		found := Breaches(test.claims, test.writes, 10*time.Second)
		matches := len(found) == len(test.breaches)
		for i, want := range test.breaches {
			matches = matches && strings.Contains(found[i], want)
		}
		if !matches {
			t.Errorf("%s: found %q, want %q", name, found, test.breaches)
		}
	}
}

func TestOverlapsOfOtherKeys(t *testing.T) {
	t.Parallel()
	one, other := write("a", 1, 3), write("b", 2, 4)
	other.Key = "ns/other"
	if found := overlaps([]Write{one, other}); found != nil {
		t.Errorf("found %q", found)
	}
}
