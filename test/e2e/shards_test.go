package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/client-go/rest"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller/sharding"
	"flagger.app/flagger/test/audit"
)

// parts is the number of shards, apps that of Canaries.
const (
	parts = 6
	apps  = 10
)

// leaseLasts is how long a process that was killed has its shards. One that can't write the lease for most of that ends, which must not come
// of a busy machine.
const leaseLasts = 30 * time.Second

// sharers are processes of one operator that share its Canaries, each with a proxy of its own. The proxies know who has which shard
// and see who writes to what belongs to which Canary.
type sharers struct {
	*team
	// flags are those of each process, apps is the number of Canaries.
	flags []string
	apps  int
	mu    awaited
	// owners is who has each shard according to the newest version of the lease, by identity.
	owners  map[int]string
	version int
	// claims are all versions of the lease, with the identities of those who hold shards.
	claims map[int]audit.Claim
	since  time.Time
	// writes are those of all, open those that have no answer yet, by Canary.
	writes []write
	open   map[string]map[string]int
	// overlaps are writes that began while another process had one in flight for the same Canary.
	overlaps []string
	all      []*sharer
}

// write is one, and who had the shard of its Canary when it began.
type write struct {
	by, owner, app string
	call           call
}

func (t *team) sharers() *sharers {
	return &sharers{
		team: t, flags: sharing(parts), apps: apps,
		owners: map[int]string{}, open: map[string]map[string]int{},
		claims: map[int]audit.Claim{}, since: time.Now(),
	}
}

// add starts a process.
func (s *sharers) add(name string) *sharer {
	s.Helper()
	return s.addBehind(name, func(*proxy) {})
}

// addBehind starts a process whose proxy is changed before.
func (s *sharers) addBehind(name string, change func(p *proxy)) *sharer {
	s.Helper()
	one, config := &sharer{name: name}, rest.CopyConfig(s.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: s.user(one), Groups: []string{"system:masters"}}
	p := s.proxyTo(config)
	p.began = func(c call) { s.began(one, c) }
	p.ended = func(c call, response *http.Response) error { return s.ended(one, c, response) }
	change(p)
	one.operator = s.operate(append(slices.Clone(s.flags), "-kubeconfig", p.kubeconfig(s))...)
	s.all = append(s.all, one)
	return one
}

// sharing are the flags of processes that share Canaries.
func sharing(shards int) []string {
	return append(leaseTimes(), "-shards", strconv.Itoa(shards))
}

func leaseTimes() []string {
	return []string{
		"-leader-election-lease-duration", leaseLasts.String(), "-leader-election-renew-deadline", "25s", "-leader-election-retry-period", "500ms",
	}
}

// user is who a process is in the audit log.
func (s *sharers) user(one *sharer) string { return one.name + "-of-" + s.ns }

type sharer struct {
	*operator
	name string
	// leaseBegan is when it sent its last write of the lease.
	leaseBegan time.Time
	// gone is set after it was killed: what is still on its way through its proxy goes nowhere.
	gone bool
}

// identity is who it is in the lease, empty before it had any.
func (o *sharer) identity() string {
	if found := regexp.MustCompile(`"identity":"([^"]+)"`).FindStringSubmatch(o.log.String()); found != nil {
		return found[1]
	}
	return ""
}

// appOf is the Canary that an object belongs to, empty if that can't be told from its name.
func appOf(c call) string { return regexp.MustCompile(`^app-\d+`).FindString(c.name) }

func (s *sharers) shardOf(app string) int { return sharding.Of(s.ns+"/"+app, parts) }

func (s *sharers) began(one *sharer, c call) {
	app := appOf(c)
	if c.writes() && c.resource == "leases" {
		s.mu.Lock()
		one.leaseBegan = time.Now()
		s.mu.Unlock()
	}
	if !c.writes() || app == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if one.gone {
		return
	}
	s.writes = append(s.writes, write{by: one.name, owner: s.owners[s.shardOf(app)], app: app, call: c})
	if s.open[app] == nil {
		s.open[app] = map[string]int{}
	}
	s.open[app][one.name]++
	for other, n := range s.open[app] {
		if other != one.name && n > 0 {
			s.overlaps = append(s.overlaps, fmt.Sprintf("%s: %s while %s has a write in flight", one.name, c, other))
		}
	}
}

func (s *sharers) ended(one *sharer, c call, response *http.Response) error {
	if app := appOf(c); c.writes() && app != "" {
		s.mu.Lock()
		if !one.gone {
			s.open[app][one.name]--
		}
		s.mu.Unlock()
	}
	lease, number, err := leaseWritten(c, response)
	if lease == nil || err != nil {
		return err
	}
	owners, err := ownersOf(lease)
	if err != nil {
		return err
	}
	s.mu.change(func() {
		// The answer has not been passed on yet: what the process does by it comes later.
		s.claims[number] = audit.Claim{By: one.name, Began: one.leaseBegan, Answered: time.Now(), Owners: owners}
		if number >= s.version {
			s.version, s.owners = number, owners
		}
	})
	return nil
}

// ownersOf is who has each shard by a version of the lease: a leader has all.
func ownersOf(lease *coordinationv1.Lease) (map[int]string, error) {
	owners := map[int]string{}
	text, shared := lease.Annotations[sharding.Annotation]
	if !shared {
		if id := lease.Spec.HolderIdentity; id != nil && *id != "" {
			for shard := range parts {
				owners[shard] = *id
			}
		}
		return owners, nil
	}
	record := struct {
		Members map[string]struct{ Holds []int }
	}{}
	err := json.Unmarshal([]byte(text), &record)
	for id, m := range record.Members {
		for _, shard := range m.Holds {
			owners[shard] = id
		}
	}
	return owners, err
}

// crash kills a process. What it had in flight is canceled.
func (s *sharers) crash(one *sharer) {
	one.kill()
	s.mu.Lock()
	defer s.mu.Unlock()
	one.gone = true
	for _, open := range s.open {
		delete(open, one.name)
	}
}

// shared waits until so many processes have all shards, in equal shares.
func (s *sharers) shared(n int) {
	s.Helper()
	s.untilShares(fmt.Sprintf("%d processes that share", n), func(shares map[string]int) bool {
		equal := len(shares) == n
		for _, share := range shares {
			equal = equal && share == parts/n
		}
		return equal
	})
}

// untilShares waits until the numbers of shards that processes have, by identity, are as wanted.
func (s *sharers) untilShares(what string, wanted func(shares map[string]int) bool) {
	s.Helper()
	var shares map[string]int
	if !s.mu.until(func() bool {
		shares = map[string]int{}
		for _, id := range s.owners {
			shares[id]++
		}
		return wanted(shares)
	}) {
		s.Fatalf("no %s: %v", what, shares)
	}
}

// each does something for each application.
func (s *sharers) each(do func(app string)) {
	for i := range s.apps {
		do(fmt.Sprintf("app-%d", i))
	}
}

// rest waits until all Canaries have come to the end of what they do, with all told.
func (s *sharers) rest(phase v1beta1.CanaryPhase, image string) {
	s.Helper()
	s.each(func(app string) {
		s.untilCanary(app, "rest of "+app, func(c *v1beta1.Canary) bool {
			if c.Status.Phase != phase || c.Status.Rollout == nil || len(c.Status.Rollout.Outbox) > 0 {
				return false
			}
			_, runs := s.replicas(app + "-primary")
			return runs == image
		})
	})
}

// begin makes all Canaries and waits until they are at rest.
func (s *sharers) begin() {
	s.Helper()
	manifest, metric, _ := strings.Cut(podinfo(1), "---\napiVersion: flagger.app/v1beta1\nkind: MetricTemplate")
	s.apply("apiVersion: flagger.app/v1beta1\nkind: MetricTemplate" + metric)
	s.each(func(app string) {
		s.apply(strings.NewReplacer("name: podinfo,", "name: "+app+",", "name: podinfo}", "name: "+app+"}", "app: podinfo", "app: "+app).Replace(manifest))
		s.create(canary(func(c *v1beta1.Canary) { c.Name, c.Spec.TargetRef.Name = app, app }))
	})
	s.rest(v1beta1.CanaryPhaseInitialized, v1)
}

// TestShardedReplicas lets three processes share ten Canaries. One is killed and one is stopped while all roll out, and others come
// in their place: each Canary is worked on by one process at any time, the one that has its shard, and every rollout comes to its end.
// The proof is in the audit log of the API server.
func TestShardedReplicas(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	s := t.sharers()
	first, second := s.add("first"), s.add("second")
	s.add("third")
	s.shared(3)
	s.begin()

	s.each(func(app string) { t.shipTo(app, v2) })
	t.untilCanary("app-0", "a step", func(c *v1beta1.Canary) bool { return c.Status.CanaryWeight > 0 })
	s.crash(first)
	s.add("fourth")
	s.rest(v1beta1.CanaryPhaseSucceeded, v2)
	s.shared(3)

	s.each(func(app string) { t.shipTo(app, v3) })
	t.untilCanary("app-1", "a step", func(c *v1beta1.Canary) bool { return c.Status.CanaryWeight > 0 })
	if err := second.stop(); err != nil {
		t.Errorf("a normal stop: %v", err)
	}
	s.shared(2)
	s.add("fifth")
	s.rest(v1beta1.CanaryPhaseSucceeded, v3)
	s.shared(3)
	s.review()
	s.promoted(2)
}

// review looks back on who wrote what.
func (s *sharers) review() {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, overlap := range s.overlaps {
		s.Error(overlap)
	}
	ids := map[string]string{}
	for _, one := range s.all {
		ids[one.name] = one.identity()
	}
	by := map[string]map[string]int{}
	for _, w := range s.writes {
		if w.owner == "" || ids[w.by] != w.owner {
			s.Errorf("%s wrote without the shard, which %q has: %s", w.by, w.owner, w.call)
		}
		if by[w.app] == nil {
			by[w.app] = map[string]int{}
		}
		by[w.app][w.by]++
	}
	s.Logf("%d writes: %v", len(s.writes), by)
	s.audited(ids)
	if moved := len(by); moved != s.apps {
		s.Errorf("%d applications were worked on", moved)
	}
}

// promoted checks how often each application was.
func (s *sharers) promoted(times int) {
	s.Helper()
	events := s.events()
	s.each(func(app string) {
		if n := count(events, "Promotion completed! Scaling down "+app+"."); n != times {
			s.Errorf("%s: told %d times that it is promoted", app, n)
		}
	})
}

// audited proves from the audit log that no Canary was worked on by two processes. The identities are those by the names of processes.
func (s *sharers) audited(ids map[string]string) {
	s.Helper()
	names := map[string]string{}
	for name, id := range ids {
		names[id] = name
	}
	claims := make([]audit.Claim, 0, len(s.claims))
	for _, number := range slices.Sorted(maps.Keys(s.claims)) {
		c := s.claims[number]
		for shard, id := range c.Owners {
			c.Owners[shard] = names[id]
		}
		claims = append(claims, c)
	}
	var writes []audit.Write
	for _, one := range s.all {
		s.audit(s.user(one), s.since, func(e *audit.Call) {
			c := call{verb: e.Verb, resource: e.Resource(), name: e.Name()}
			app := appOf(c)
			if !c.writes() || app == "" {
				return
			}
			writes = append(writes, audit.Write{
				By: one.name, Key: app, Shard: s.shardOf(app), Began: e.RequestReceivedTimestamp, Ended: e.StageTimestamp, What: c.String(),
			})
		})
	}
	for _, breach := range audit.Breaches(claims, writes, leaseLasts) {
		s.Error(breach)
	}
	s.Logf("the audit log has %d writes under %d versions of the lease", len(writes), len(claims))
	if len(writes) == 0 || len(writes) < len(s.writes)*9/10 {
		s.Errorf("the audit log has %d of %d writes", len(writes), len(s.writes))
	}
}
