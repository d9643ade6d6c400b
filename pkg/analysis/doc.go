// Package analysis judges a revision by the readings of its metrics. It is pure: readings in, a verdict out. What it does
// not know it never takes for good: a reading without a value is a failed check.
package analysis
