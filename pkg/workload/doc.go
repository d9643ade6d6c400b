// Package workload reads and writes the workloads of a Canary: the target, which belongs to the user, and the primary, our
// copy of it.
//
// Objects are handled as the API server stores them, never through Go structs, so a field that this program does not know
// is neither lost in the copy nor left out of the fingerprint.
//
// The target is changed in one field only, by a merge patch: spec.replicas of a Deployment, one key of the node selector of
// a DaemonSet, one annotation of a Knative Service. The primary is created and updated whole, from a target that was read
// directly before the write and whose fingerprint is the one asked for.
package workload
