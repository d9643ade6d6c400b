// Package process is what the programs have in common: how they log and how they stop.
package process
