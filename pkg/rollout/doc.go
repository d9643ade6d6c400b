// Package rollout holds the rules of a progressive delivery. It is pure: Decide maps Facts, which somebody else observed,
// to a Decision, which somebody else carries out. It reads no clock, makes no call and keeps no memory.
//
// A pass of the control loop is
//
//	observe -> Facts -> Resolve -> write Status -> ask Needs -> run Actions -> publish the outbox
//
// Resolve is Decide with the answers to earlier Needs that are there. A decision is whole without the others: its status and
// its actions are what holds in the meantime.
//
// The status is written before anything that follows from it, so a process that dies between two writes leaves a status
// that the next process makes true.
package rollout
