package cluster

import (
	"path/filepath"
	"strconv"
)

// etcdURL is where etcd listens, seen by this network namespace only.
const etcdURL = "http://127.0.0.1:2379"

func (c *Cluster) logDir() string { return filepath.Join(c.cfg.Dir, "log") }

// flags are the command line flags of the named program.
func (c *Cluster) flags(name string) []string {
	switch name {
	case Etcd:
		return c.etcdFlags()
	case APIServer:
		return c.apiServerFlags()
	case ControllerManager:
		return c.controllerManagerFlags()
	default:
		return c.schedulerFlags()
	}
}

func (c *Cluster) etcdFlags() []string {
	const peer = "http://127.0.0.1:2380"
	return []string{
		"--name=testbed",
		"--data-dir=" + filepath.Join(c.cfg.Dir, "etcd"),
		"--listen-client-urls=" + etcdURL,
		"--advertise-client-urls=" + etcdURL,
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=testbed=" + peer,
		// Ten thousand Canaries with all that belongs to them.
		"--quota-backend-bytes=8589934592",
		// Nothing here has to survive a crash of the machine.
		"--unsafe-no-fsync",
		"--log-level=warn",
	}
}

func (c *Cluster) apiServerFlags() []string {
	return []string{
		"--etcd-servers=" + etcdURL,
		"--bind-address=0.0.0.0",
		"--secure-port=" + strconv.Itoa(SecurePort),
		"--advertise-address=" + c.cfg.NodeIP,
		"--service-cluster-ip-range=" + c.cfg.ServiceCIDR,
		"--tls-cert-file=" + c.path("apiserver.crt"),
		"--tls-private-key-file=" + c.path("apiserver.key"),
		"--client-ca-file=" + c.path("ca.crt"),
		"--kubelet-client-certificate=" + c.path("kubelet-client.crt"),
		"--kubelet-client-key=" + c.path("kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-signing-key-file=" + c.path("sa.key"),
		"--service-account-key-file=" + c.path("sa.pub"),
		"--requestheader-client-ca-file=" + c.path("proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + c.path("proxy-client.crt"),
		"--proxy-client-key-file=" + c.path("proxy-client.key"),
		"--authorization-mode=Node,RBAC",
		// As on OpenShift: who sets an owner that blocks deletions has to have the right to its finalizers.
		"--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
		"--allow-privileged=true",
		"--audit-policy-file=" + c.path("audit.yaml"),
		"--audit-log-path=" + c.AuditLog(),
		// Blocking: a call that was answered is in the log, so tests can count at once.
		"--audit-log-mode=blocking",
		"--audit-log-maxsize=1024",
		"--profiling=true",
	}
}

func (c *Cluster) controllerManagerFlags() []string {
	kubeconfig := c.path(ControllerManager + ".kubeconfig")
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--cert-dir=" + filepath.Join(c.cfg.Dir, "pki", ControllerManager),
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + c.path("sa.key"),
		"--root-ca-file=" + c.path("ca.crt"),
		"--cluster-signing-cert-file=" + c.path("ca.crt"),
		"--cluster-signing-key-file=" + c.path("ca.key"),
		"--cluster-cidr=" + c.cfg.PodCIDR,
		"--service-cluster-ip-range=" + c.cfg.ServiceCIDR,
		// Endpoints follow pods at once, and scaling decisions do not keep a test waiting.
		"--endpointslice-updates-batch-period=0",
		"--horizontal-pod-autoscaler-sync-period=5s",
		"--horizontal-pod-autoscaler-initial-readiness-delay=5s",
		"--horizontal-pod-autoscaler-cpu-initialization-period=10s",
		// A busy machine must not look like a lost node: that would evict pods.
		"--node-monitor-grace-period=5m",
		"--kube-api-qps=200",
		"--kube-api-burst=400",
		"--profiling=true",
	}
}

func (c *Cluster) schedulerFlags() []string {
	kubeconfig := c.path(Scheduler + ".kubeconfig")
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--cert-dir=" + filepath.Join(c.cfg.Dir, "pki", Scheduler),
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
		"--kube-api-qps=200",
		"--kube-api-burst=400",
		"--profiling=true",
	}
}
