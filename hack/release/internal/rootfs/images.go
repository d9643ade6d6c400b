package rootfs

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// Image is what one of the images is, beside its files.
type Image struct {
	// Name is that of its program in cmd/.
	Name string
	// Repository is the name that charts and manifests have for it.
	Repository  string
	Title       string
	Description string
	// UID and GID are those of the charts.
	UID, GID int
	Account  string
	// WorkingDir is the folder of the program: manifests start it as ./name.
	WorkingDir string
}

// Images are all that are released.
func Images() []Image {
	return []Image{
		{
			Name: "flagger", Repository: "flagger/flagger", Title: "Flagger",
			Description: "Operator that rolls out new revisions of workloads step by step, and takes bad ones back",
			UID:         10001, GID: 10001, Account: "flagger", WorkingDir: "/",
		},
		{
			Name: "loadtester", Repository: "flagger/flagger-loadtester", Title: "Load tester of Flagger",
			Description: "Runs the load tests, checks and gates that webhooks of Canaries ask for",
			UID:         100, GID: 101, Account: "app", WorkingDir: "/home/app",
		},
	}
}

// Binary is the path of the program in the image.
func (i Image) Binary() string { return strings.TrimSuffix(i.WorkingDir, "/") + "/" + i.Name }

// User is whom the program runs as.
func (i Image) User() string { return fmt.Sprintf("%d:%d", i.UID, i.GID) }

// Env is what the environment begins with.
func (i Image) Env() []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	if i.WorkingDir != "/" {
		env = append(env, "HOME="+i.WorkingDir)
	}
	return env
}

// Base is what a program needs around it: the account that it runs as, the certificates that it trusts, a folder for temporary files.
func (i Image) Base() Tree {
	t := Tree{}
	text := func(path, content string) { t.Add(File{Path: path, Mode: 0o644, Content: []byte(content)}) }
	text("etc/passwd", fmt.Sprintf("root:x:0:0:root:/root:/sbin/nologin\n%s:x:%d:%d:%s:%s:/sbin/nologin\n", i.Account, i.UID, i.GID, i.Title, i.WorkingDir))
	text("etc/group", fmt.Sprintf("root:x:0:\n%s:x:%d:\n", i.Account, i.GID))
	// Names of hosts in files come before DNS, in Go as in the library of C.
	text("etc/nsswitch.conf", "hosts: files dns\n")
	text("etc/ssl/certs/ca-certificates.crt", string(certificates()))
	t.Add(File{Path: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777})
	if i.WorkingDir != "/" {
		t.Add(File{Path: i.WorkingDir, Mode: fs.ModeDir | 0o755, UID: i.UID, GID: i.GID})
	}
	return t
}

// Program is the layer of the program itself, which lies at source on this machine.
func (i Image) Program(source string) Tree {
	t := Tree{}
	t.Add(File{Path: i.Binary(), Mode: 0o755, Source: source})
	if i.WorkingDir != "/" {
		// A layer sets what it says about a folder.
		t.Add(File{Path: i.WorkingDir, Mode: fs.ModeDir | 0o755, UID: i.UID, GID: i.GID})
	}
	if i.Name == "loadtester" {
		for _, tool := range []string{"hey", "ghz"} {
			t.Add(File{Path: "usr/local/bin/" + tool, Mode: fs.ModeSymlink | 0o777, Link: i.Binary()})
		}
	}
	return t
}

// certificates are the roots that Mozilla trusts. Those that it trusts for a part of names or time only can't be told so in a file.
func certificates() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
		}
	}
	return b.Bytes()
}
