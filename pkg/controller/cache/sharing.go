package cache

import (
	"hash/maphash"
	"sync"

	"flagger.app/flagger/pkg/kube/objects"
)

const (
	// knownTexts and knownTrees are how many texts and trees are at hand to be used again. They bound what is kept of objects that are
	// gone, and are far more than the objects of one kind have in common.
	knownTexts, knownTrees = 4096, 1024
	// longestText bounds the bytes of a text that is likely to come again, largestTree the fields of such a tree.
	longestText, largestTree = 64, 16
)

// sharing makes equal parts of cached objects one. The names of the fields are the same in all objects, and so are defaults, labels and
// owners in many; a decoder makes each of them anew, and a map takes some 400 bytes however little is in it. Cached objects are not
// to be changed anyway.
//
// Both tables have one place for each hash, and the last one to come has it: what is rare is in the way of what is frequent for
// a short time only, and nothing has to be given back.
type sharing struct {
	seed maphash.Seed

	mu    sync.Mutex
	texts [knownTexts]any
	trees [knownTrees]any
}

func newSharing() *sharing { return &sharing{seed: maphash.MakeSeed()} }

// object returns an object as JSON that is equal to the given one, which is left as it is: parts of it may be in use elsewhere. What it
// has in common with the version before, nil for none, is taken from there: that is most of it, and found with one comparison.
func (s *sharing) object(before, fields map[string]any) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fields(before, fields)
}

func (s *sharing) fields(before, fields map[string]any) map[string]any {
	if fields == nil {
		return nil
	}
	out := make(map[string]any, len(fields))
	for key, value := range fields {
		out[s.text(key).(string)] = s.value(before[key], value)
	}
	return out
}

func (s *sharing) value(before, value any) any {
	switch v := value.(type) {
	case string:
		return s.text(v)
	case map[string]any, []any:
		if objects.Equal(before, v) {
			return before
		}
		left := largestTree
		hash := s.hash(v, &left)
		if left < 0 {
			return s.copied(before, v)
		}
		place := &s.trees[hash%knownTrees]
		if !objects.Equal(*place, v) {
			*place = s.copied(before, v)
		}
		return *place
	default:
		return value
	}
}

func (s *sharing) copied(before, tree any) any {
	switch v := tree.(type) {
	case map[string]any:
		was, _ := before.(map[string]any)
		return s.fields(was, v)
	case []any:
		if v == nil {
			return tree
		}
		was, _ := before.([]any)
		out := make([]any, len(v))
		for i := range v {
			var at any
			if i < len(was) {
				at = was[i]
			}
			out[i] = s.value(at, v[i])
		}
		return out
	default:
		return tree
	}
}

// text is a string as an interface value, which would take 16 bytes more each time that one is made.
func (s *sharing) text(v string) any {
	if len(v) > longestText {
		return v
	}
	place := &s.texts[maphash.String(s.seed, v)%knownTexts]
	if known, ok := (*place).(string); !ok || known != v {
		*place = v
	}
	return *place
}

// hash takes the fields of a tree from those that are left, and means nothing when there were not enough.
func (s *sharing) hash(value any, left *int) uint64 {
	if *left--; *left < 0 {
		return 0
	}
	const prime = 1099511628211
	switch v := value.(type) {
	case string:
		return maphash.String(s.seed, v)
	case map[string]any:
		sum := uint64(len(v))
		for key, field := range v {
			// The order of the fields is another one each time.
			sum += (maphash.String(s.seed, key)*prime ^ s.hash(field, left)) * prime
			if *left < 0 {
				return 0
			}
		}
		return sum
	case []any:
		sum := uint64(len(v)) + prime
		for _, item := range v {
			sum = sum*prime ^ s.hash(item, left)
		}
		return sum
	case bool, int64, float64:
		return maphash.Comparable(s.seed, value)
	default:
		return 1
	}
}
