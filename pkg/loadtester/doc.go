// Package loadtester runs what the webhooks of Canaries ask for: commands, tests of other systems, and gates that people open
// and close.
//
// Whoever reaches it may run commands with the rights of its pod. The namespace of a payload is what the caller says it is: the
// checks of it keep tenants apart who write Canaries and can't reach the load tester themselves.
package loadtester
