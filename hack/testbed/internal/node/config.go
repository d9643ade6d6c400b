// Package node is a Kubernetes node whose containers are plain processes of
// this machine: an image name stands for a program, every pod has its own
// network namespace and address, every container its own root directory and
// process namespace.
package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"

	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
)

// Image is the program an image name stands for.
type Image struct {
	// Path of the program on this machine, absolute.
	Path string
	// Args come directly after the program, before what the manifest says;
	// they choose the applet of a multi-call program.
	Args []string
	// Env of the image; the manifest overrides it.
	Env map[string]string
	// WorkDir is the working directory. Defaults to "/".
	WorkDir string
	// Mounts are files and directories the image brings along: path in the
	// container to absolute path on this machine. They are read-only.
	Mounts map[string]string
}

// Config of one node.
type Config struct {
	// Client talks to the API server. It should have no client-side rate
	// limit (QPS -1), else pods start late when many start at once.
	Client kubernetes.Interface
	// Images by reference. A key is an exact reference ("repo/app:1.2"), or
	// a repository with any tag ("repo/app:*") or any digest ("repo/app@*").
	Images map[string]Image
	// NodeName defaults to "node-0".
	NodeName string
	// PodCIDR is the range pods get addresses from. Defaults to
	// 10.244.0.0/24.
	PodCIDR string
	// DNSIP is the name server of pods. Defaults to 10.96.0.10.
	DNSIP string
	// NodeIP is the address of the node in the network namespace that Run is
	// called in; it is also the address of hostNetwork pods. It is added to
	// the loopback device when missing. Defaults to 10.244.255.1.
	NodeIP string
	// KubeletPort is where logs and exec are served on NodeIP. Defaults to
	// 10250; nodes that share an address need different ones.
	KubeletPort int32
	// StateDir keeps volumes and logs of pods. Required.
	StateDir string
	// Log defaults to slog.Default().
	Log *slog.Logger
	// Clock defaults to the real one.
	Clock clock.WithDelayedExecution
}

func (c Config) withDefaults() (Config, error) {
	if c.Client == nil {
		return c, errors.New("node: Client is not set; give a clientset with admin rights")
	}
	if c.StateDir == "" {
		return c, errors.New("node: StateDir is not set; give a writable directory")
	}
	dir, err := filepath.Abs(c.StateDir)
	if err != nil {
		return c, fmt.Errorf("node: StateDir %s: %w", c.StateDir, err)
	}
	c.StateDir = dir
	c.NodeName = orDefault(c.NodeName, "node-0")
	c.PodCIDR = orDefault(c.PodCIDR, "10.244.0.0/24")
	c.DNSIP = orDefault(c.DNSIP, "10.96.0.10")
	c.NodeIP = orDefault(c.NodeIP, "10.244.255.1")
	c.KubeletPort = orDefault(c.KubeletPort, 10250)
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	if _, err := netip.ParseAddr(c.NodeIP); err != nil {
		return c, fmt.Errorf("node: NodeIP: %w", err)
	}
	for ref, image := range c.Images {
		if !filepath.IsAbs(image.Path) {
			return c, fmt.Errorf("node: Images[%q].Path %q is not absolute", ref, image.Path)
		}
	}
	return c, nil
}

func orDefault[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}
