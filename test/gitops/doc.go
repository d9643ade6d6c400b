// Package gitops holds what the documentation shows for tools of GitOps against the tools themselves. It is a module of its own, so
// that nothing else depends on these.
package gitops
