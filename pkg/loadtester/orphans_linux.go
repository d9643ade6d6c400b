package loadtester

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"
)

// adoptOrphans makes the kernel give this process the children of the commands that it started when these end before them. It can
// wait for them then; as the first process of a container it has to, or dead ones pile up.
func adoptOrphans() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl PR_SET_CHILD_SUBREAPER: %w", err)
	}
	return nil
}

// wait returns when all processes of the group have ended but the first, for which its starter waits.
func (g *group) wait(clock.Clock) {
	for {
		_, err := syscall.Wait4(-g.id, nil, 0, nil)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}
