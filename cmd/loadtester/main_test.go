package main

import (
	"io"
	"strings"
	"testing"
	"time"
)

func TestDefaults(t *testing.T) {
	o, err := parse(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.port != "9090" || o.timeout != time.Hour || o.logLevel != "debug" || o.zapEncoding != "json" || o.namespaces != nil || !o.shell || o.shellNamespaces != nil || o.maxCommands != 100 {
		t.Errorf("%+v", o)
	}
}

func TestFlags(t *testing.T) {
	o, err := parse([]string{"-port=8080", "-log-level=info", "-timeout=1h", "-namespace-regexp=^a", "-shell-namespaces=a, b", "-enable-shell=false", "-zap-replace-globals"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.port != "8080" || !o.namespaces.MatchString("ab") || strings.Join(o.shellNamespaces, "+") != "a+b" || o.shell {
		t.Errorf("%+v", o)
	}
	if o, err := parse([]string{"-namespace-regexp="}, io.Discard); err != nil || o.namespaces != nil {
		t.Errorf("an empty expression: %+v %v", o, err)
	}
}

func TestWrongFlagsNameTheFlag(t *testing.T) {
	for arg, want := range map[string]string{
		"-timeout=0s": "-timeout", "-max-commands=0": "-max-commands", "-namespace-regexp=(": "-namespace-regexp", "port": `"port"`, "-x": "-x",
	} {
		if _, err := parse([]string{arg}, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", arg, err)
		}
	}
}
