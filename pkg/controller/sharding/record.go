package sharding

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
)

// Annotation of the Lease holds who has which shards.
const Annotation = "flagger.app/shards"

// holderPrefix is how the holder of a Lease begins that members hold together.
const holderPrefix = "flagger-shards-"

// Of returns the shard of a key, from 0 to n-1.
func Of(key string, n int) int {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(key))
	return int(sum.Sum64() % uint64(n)) //nolint:gosec // less than n
}

// record is who has what. Members are by identity.
type record struct {
	Members map[string]*member `json:"members"`
	// Settles is who made the record where there was none, and waits until whoever acted by one that was deleted has noticed. Until
	// then nobody claims.
	Settles string `json:"settles,omitempty"`
}

// member is one process.
type member struct {
	// Beat grows with each write of the member.
	Beat int64 `json:"beat"`
	// Seconds is how long the member lives without a write.
	Seconds int64 `json:"seconds"`
	// Holds are its shards, in their order.
	Holds []int `json:"holds,omitempty"`
}

// holder is the identity of all members together. Those with another number of shards are strangers: a key is in another shard there.
func holder(shards int) string { return fmt.Sprintf("%s%d", holderPrefix, shards) }

func parseRecord(text string, shards int) (*record, error) {
	r := &record{}
	if err := json.Unmarshal([]byte(text), r); err != nil {
		return nil, fmt.Errorf("annotation %s: %w", Annotation, err)
	}
	owners := map[int]string{}
	for id, m := range r.Members {
		if m == nil {
			return nil, fmt.Errorf("annotation %s: member %s is null", Annotation, id)
		}
		for _, shard := range m.Holds {
			if other, taken := owners[shard]; taken || shard < 0 || shard >= shards {
				return nil, fmt.Errorf("annotation %s: shard %d of %s and %q", Annotation, shard, id, other)
			}
			owners[shard] = id
		}
	}
	return r, nil
}

func (r *record) text() (string, error) {
	text, err := json.Marshal(r)
	return string(text), err
}

// strike removes members, with what they hold.
func (r *record) strike(dead func(id string, m *member) bool) {
	maps.DeleteFunc(r.Members, dead)
	if r.Members[r.Settles] == nil {
		r.Settles = ""
	}
}

// share is how many shards a member should have. The larger shares are of those who have most already, so that no shard moves from
// one to another for nothing.
func (r *record) share(id string, shards int) int {
	ids := slices.SortedFunc(maps.Keys(r.Members), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(r.Members[b].Holds), len(r.Members[a].Holds)), strings.Compare(a, b))
	})
	share := shards / len(ids)
	if slices.Index(ids, id) < shards%len(ids) {
		share++
	}
	return share
}

// free lists the shards that nobody holds.
func (r *record) free(shards int) []int {
	var all []int
	for shard := range shards {
		if !slices.ContainsFunc(slices.Collect(maps.Values(r.Members)), func(m *member) bool { return slices.Contains(m.Holds, shard) }) {
			all = append(all, shard)
		}
	}
	return all
}

// claim adds free shards to a member up to its share.
func (r *record) claim(id string, shards int) {
	m, free := r.Members[id], r.free(shards)
	want := min(r.share(id, shards)-len(m.Holds), len(free))
	if r.Settles != "" || want <= 0 {
		return
	}
	m.Holds = append(m.Holds, free[:want]...)
	slices.Sort(m.Holds)
}
