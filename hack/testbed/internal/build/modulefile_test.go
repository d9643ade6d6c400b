package build

import (
	"archive/zip"
	"os"
	"path/filepath"
	"testing"
)

// A file comes out of the module in the pinned version, by way of a proxy.
func TestModuleFile(t *testing.T) {
	const module, version = "example.com/crds", "v1.2.3"
	proxy := t.TempDir()
	dir := filepath.Join(proxy, module, "@v")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(path, content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, version+".info"), `{"Version": "`+version+`"}`)
	write(filepath.Join(dir, version+".mod"), "module "+module+"\n")
	file, err := os.Create(filepath.Join(dir, version+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	archive := zip.NewWriter(file)
	for name, content := range map[string]string{"go.mod": "module " + module + "\n", "config/crds.yaml": "kind: A\n", "config/more.yaml": "kind: B\n"} {
		w, err := archive.Create(module + "@" + version + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOPROXY", "file://"+proxy)
	t.Setenv("GONOSUMDB", "*")
	t.Setenv("GOMODCACHE", t.TempDir())
	pinned := t.TempDir()
	write(filepath.Join(pinned, "go.mod"), "module example.com/pinned\n\ngo 1.26\n\nrequire "+module+" "+version+"\n")
	t.Cleanup(func() { _, _ = goOutput(t.Context(), pinned, "clean", "-modcache") })

	good := ModuleFile{Dir: pinned, Module: module, File: "config/crds.yaml"}
	out := filepath.Join(t.TempDir(), "out")
	if err := good.Build(t.Context(), out, discard{}); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(out)
	if err != nil || string(content) != "kind: A\n" {
		t.Errorf("content %q, %v", content, err)
	}
	several := ModuleFile{Dir: pinned, Module: module, File: "config/*.yaml"}
	if err := several.Build(t.Context(), out, discard{}); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(out); err != nil || string(content) != "kind: A\n\n---\nkind: B\n" {
		t.Errorf("content of several files %q, %v", content, err)
	}
	missing := ModuleFile{Dir: pinned, Module: module, File: "config/no.yaml"}
	if err := missing.Build(t.Context(), out, discard{}); err == nil {
		t.Error("a file that is not in the module was found")
	}
	one, err := good.Key(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if two, err := missing.Key(t.Context()); err != nil || one == two {
		t.Errorf("keys of two files are %q and %q, %v; want them to differ", one, two, err)
	}
}

type discard struct{}

func (discard) Phase(string)   {}
func (discard) Count(int, int) {}
