// Package tracing makes a trace of each rollout: its analysis steps, checks, webhooks and writes are spans of it, whichever process
// made them. Nothing is traced unless the environment names a collector.
package tracing
