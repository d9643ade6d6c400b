package cluster

import (
	"fmt"
	"net"
	"strconv"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// auditPolicy logs each call once, when it is complete. Calls without a
// resource (health, discovery) say nothing about what a program does.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: None
  nonResourceURLs: ["*"]
- level: Metadata
`

// writeFiles makes all keys, certificates and configuration files.
func (c *Cluster) writeFiles() error {
	if err := mkdirs(c.path(""), c.logDir()); err != nil {
		return err
	}
	ca, err := newAuthority(c.cfg.Clock, "testbed")
	if err != nil {
		return err
	}
	c.ca = ca
	files := map[string][]byte{
		"ca.crt":     ca.pem,
		"audit.yaml": []byte(auditPolicy),
	}
	if files["sa.key"], files["sa.pub"], err = signingKey(); err != nil {
		return err
	}
	if files["ca.key"], err = ca.keyPEM(); err != nil {
		return err
	}
	if err := c.addIdentities(files); err != nil {
		return err
	}
	for name, content := range files {
		if err := writeSecret(c.path(name), content); err != nil {
			return err
		}
	}
	for _, part := range []string{ControllerManager, Scheduler} {
		if err := c.writeKubeconfig(c.path(part+".kubeconfig"), "system:"+part); err != nil {
			return err
		}
	}
	_, err = c.Kubeconfig("admin")
	return err
}

// addIdentities adds what the API server shows to clients, to the node agent
// and to aggregated API servers.
func (c *Cluster) addIdentities(files map[string][]byte) error {
	first, err := serviceIP(c.cfg.ServiceCIDR)
	if err != nil {
		return err
	}
	names := []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"}
	serving, err := c.ca.server(names, []net.IP{first, net.ParseIP(c.cfg.NodeIP), net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	kubelet, err := c.ca.client("kube-apiserver-kubelet-client", "system:masters")
	if err != nil {
		return err
	}
	// A separate authority: whoever holds a certificate of it may speak as any user.
	proxyCA, err := newAuthority(c.cfg.Clock, "testbed-proxy")
	if err != nil {
		return err
	}
	proxy, err := proxyCA.client("front-proxy-client")
	if err != nil {
		return err
	}
	files["proxy-ca.crt"] = proxyCA.pem
	for name, id := range map[string]identity{"apiserver": serving, "kubelet-client": kubelet, "proxy-client": proxy} {
		files[name+".crt"], files[name+".key"] = id.cert, id.key
	}
	return nil
}

// writeKubeconfig writes a kubeconfig with a new certificate of the user.
func (c *Cluster) writeKubeconfig(path, user string, groups ...string) error {
	id, err := c.ca.client(user, groups...)
	if err != nil {
		return err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["testbed"] = &clientcmdapi.Cluster{
		Server:                   "https://" + net.JoinHostPort(c.cfg.NodeIP, strconv.Itoa(SecurePort)),
		CertificateAuthorityData: c.ca.pem,
	}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: id.cert, ClientKeyData: id.key}
	config.Contexts["testbed"] = &clientcmdapi.Context{Cluster: "testbed", AuthInfo: user, Namespace: "default"}
	config.CurrentContext = "testbed"
	content, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("kubeconfig of %s: %w", user, err)
	}
	return writeSecret(path, content)
}
