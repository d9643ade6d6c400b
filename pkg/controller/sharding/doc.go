// Package sharding shares a fixed number of shards among the processes of an operator. It knows nothing of Canaries: a shard is a number.
//
// Who has what stands in one Lease, the one of the leader election, so that neither an operator without shards nor one with another
// number of them ever acts at the same time. Each member writes to it once in a retry period, on the condition that it is as it was
// read: no two members can take the same shard. In each write a member
//
//   - shows that it lives, by a number that grows,
//   - strikes out members whose number did not grow for as long as a lease lasts, and with them their claims,
//   - gives up the shards that have come to rest of those above its fair share,
//   - claims free shards up to its fair share, and works on them once the write was answered.
//
// A member that can't write for the renew deadline stops all its work at once and ends: long before others may strike it out, by the
// time of their own clocks.
//
//	free ──claim, write──► held ──above the share──► coming to rest ──at rest, write──► free
//	                        │
//	                        └──no write for the renew deadline──► lost: all work is canceled, the process ends
package sharding
