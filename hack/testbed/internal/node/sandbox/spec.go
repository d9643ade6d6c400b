// Package sandbox runs one program the way a container runtime does, with
// nothing but namespaces: its own root directory, process and network
// namespaces. The caller has to be root of its user namespace, which an
// ordinary user becomes by creating one.
package sandbox

// Spec says how to run a container. It travels as JSON from the node to the
// helper process that becomes the container.
type Spec struct {
	// Root is an existing empty directory the new root is assembled in.
	Root string
	// Argv of the program; Argv[0] is its path in the container.
	Argv []string
	// Env of the program, NAME=value.
	Env []string
	// Dir is the working directory; it is made when missing.
	Dir string
	// Hostname of the container.
	Hostname string
	// Files to create in the container: path to content.
	Files map[string]string
	// Links to create in the container: path to target.
	Links map[string]string
	// Mounts in the order they are made.
	Mounts []Mount
	// ReadOnlyRoot keeps everything but Mounts from being written to.
	ReadOnlyRoot bool
}

// Mount shows a file or directory of this machine in a container.
type Mount struct {
	// Source on this machine.
	Source string
	// Target in the container; it is made when missing.
	Target   string
	ReadOnly bool
}
