package node

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// content reads a volume as a program would, following links.
func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "..") {
			continue
		}
		root, err := filepath.EvalSymlinks(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			out[entry.Name()+strings.TrimPrefix(path, root)] = string(data)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestVolumeContentAndReplacement(t *testing.T) {
	yes, mode := true, int32(0o400)
	volume := &corev1.Volume{Name: "all", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		DefaultMode: &mode,
		Sources: []corev1.VolumeProjection{
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}, Items: []corev1.KeyToPath{{Key: "color", Path: "deep/er/color"}}}},
			{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "sec"}}},
			{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "none"}, Optional: &yes}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}}}}},
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}},
		},
	}}}
	token := func(*corev1.ServiceAccountTokenProjection) (string, error) { return "jwt", nil }
	first, err := volumePayload(volume, testFacts, testObjects, token)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := writePayload(dir, first); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"deep/er/color": "blue", "password": "hidden", "labels": "app=\"podinfo\"\nb/c=\"d\"", "token": "jwt",
	}
	if diff := cmp.Diff(want, content(t, dir)); diff != "" {
		t.Errorf("content (-want +got):\n%s", diff)
	}
	if info, err := os.Stat(filepath.Join(dir, "token")); err != nil || info.Mode().Perm() != 0o400 {
		t.Errorf("token: %v, %v; want mode 0400", info, err)
	}
	if err := writePayload(dir, payload{"password": {[]byte("new"), 0o644}, "more": {[]byte("x"), 0o644}}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"password": "new", "more": "x"}, content(t, dir)); diff != "" {
		t.Errorf("content after replacement (-want +got):\n%s", diff)
	}
	// ..data, its directory and two files: nothing of the old content stays.
	if entries, _ := os.ReadDir(dir); len(entries) != 4 {
		t.Errorf("left in the volume: %v", entries)
	}
}

func TestVolumeNamesWhatIsMissing(t *testing.T) {
	volume := &corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}, Items: []corev1.KeyToPath{{Key: "none", Path: "x"}},
	}}}
	_, err := volumePayload(volume, testFacts, testObjects, nil)
	if err == nil || !strings.Contains(err.Error(), `ConfigMap test/cfg has no key "none"`) {
		t.Errorf("error is %v", err)
	}
}
