// Package rollout holds the rules of a progressive delivery. It is pure: Decide maps Facts, which somebody else observed,
// to a Decision, which somebody else carries out. It reads no clock, makes no call and keeps no memory.
//
// A pass of the control loop is
//
//	observe -> Facts -> Decide -> (Needs? fetch them, Decide again) -> write Status -> run Actions -> publish the outbox
//
// The status is written before anything that follows from it, so a process that dies between two writes leaves a status
// that the next process makes true.
package rollout
