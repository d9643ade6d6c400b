// Package netns makes the world a testbed lives in: user, network, mount, PID
// and UTS namespaces of its own, in which an ordinary user is root.
//
// Three processes stand in a row. The supervisor, outside, starts the init
// process by [Command]. Init is PID 1 of the new PID namespace: it prepares
// mounts and network, starts the worker and reaps whatever is orphaned. The
// worker does the work. The kernel kills every process of a PID namespace when
// its init dies, and init dies with the supervisor, so nothing survives a
// crash or a kill -9 of any of the three.
package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// ServiceCIDR is the range of ClusterIPs; every address in it is local inside.
const ServiceCIDR = "10.96.0.0/16"

// NodeIP is the address of the node, of the API server and of everything else
// that runs in the testbed's own network namespace, as pods see it. Pods have
// the rest of PodCIDR, each in a network namespace of its own.
const NodeIP = "10.244.255.1"

// PodCIDR is the range that the node agent gives pod addresses from. It is not
// routed here: a local route would take precedence over the routes to the pods.
const PodCIDR = "10.244.0.0/16"

// DNSIP is the address of the cluster DNS server.
const DNSIP = "10.96.0.10"

// initArg and workerArg are first arguments of the re-executed program.
const (
	initArg   = "__testbed-init"
	workerArg = "__testbed-worker"
)

// ControlFD is the number of the file that the supervisor passed to [Command];
// the worker finds it open under this number.
const ControlFD = 3

// Command returns the not yet started command that re-executes this program
// inside new namespaces, as a child of the calling thread. The program's main
// must call [MaybeRun] first of all. The file becomes ControlFD of the worker.
//
// The caller must start the command on a locked OS thread and keep that thread
// until the command has ended: the kernel delivers the parent-death signal
// when the creating thread ends, not the creating process.
func Command(control *os.File, stateDir string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", initArg, stateDir)
	cmd.ExtraFiles = []*os.File{control}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS |
			syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
		// A group of its own keeps Ctrl-C for the supervisor, which ends us in order.
		Setpgid: true,
	}
	return cmd
}

// Explain adds to a refusal by the kernel to make namespaces, or to let us work
// in them, what an administrator has to allow. Other errors it returns as they are.
func Explain(err error) error {
	// ENOSPC is the answer when there are too many namespaces, of which 0 may be too many.
	if !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.EACCES) && !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	for _, hint := range []struct{ file, bad, remedy string }{
		{"/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"},
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"},
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1",
			"sysctl kernel.apparmor_restrict_unprivileged_userns=0"},
	} {
		value, readErr := os.ReadFile(hint.file)
		if readErr == nil && strings.TrimSpace(string(value)) == hint.bad {
			return fmt.Errorf("%w: this kernel does not let you make user namespaces; allow it by: sudo %s", err, hint.remedy)
		}
	}
	return fmt.Errorf("%w: making user, network, mount and PID namespaces must be allowed here "+
		"(inside a container, run it with seccomp=unconfined and an unmasked /proc)", err)
}
