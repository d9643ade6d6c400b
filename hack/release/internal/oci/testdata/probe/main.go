// Command probe stands for a program in tests of images: it prints what it sees around it.
package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"os/user"
)

func main() {
	dir, _ := os.Getwd()
	fmt.Println("folder", dir)
	me, err := user.Current()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("account", me.Username, me.Uid, me.Gid)
	roots, err := x509.SystemCertPool()
	fmt.Println("trusts", !roots.Equal(x509.NewCertPool()), err)
	file, err := os.CreateTemp("", "probe")
	fmt.Println("temporary file", err)
	if err == nil {
		_ = os.Remove(file.Name())
	}
}
