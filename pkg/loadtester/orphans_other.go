//go:build !linux

package loadtester

import (
	"errors"
	"syscall"
	"time"

	"k8s.io/utils/clock"
)

// lookAgain is how often it is asked whether a group is still there.
const lookAgain = 100 * time.Millisecond

// adoptOrphans has nothing to do: only Linux gives orphans to another process than the first of the machine, which waits for them.
func adoptOrphans() error { return nil }

// wait returns when all processes of the group have ended but the first, for which its starter waits. They are not children of this
// process, so nothing tells of their end.
func (g *group) wait(c clock.Clock) {
	for !errors.Is(syscall.Kill(-g.id, 0), syscall.ESRCH) {
		<-c.After(lookAgain)
	}
}
