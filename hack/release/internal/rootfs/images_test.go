package rootfs

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

const top = "../../../../"

// Whoever builds by a Dockerfile gets the same account, folder, environment and start as from an archive.
func TestDockerfilesAgree(t *testing.T) {
	for _, image := range Images() {
		name := "Dockerfile"
		if image.Name != "flagger" {
			name += "." + image.Name
		}
		raw, err := os.ReadFile(top + name)
		if err != nil {
			t.Fatal(err)
		}
		_, final, ok := strings.Cut(string(raw), "\nFROM scratch\n")
		if !ok {
			t.Fatalf("%s: its image is not from scratch", name)
		}
		want := fmt.Sprintf("COPY --from=build /rootfs/ /\nENV %s\nWORKDIR %s\nUSER %s\nENTRYPOINT [%q]\n",
			strings.Join(image.Env(), " "), image.WorkingDir, image.User(), image.Binary())
		if final != want {
			t.Errorf("%s\n got %s\nwant %s", name, final, want)
		}
		if !strings.Contains(string(raw), " IMAGE="+image.Name+" ") {
			t.Errorf("%s builds another image", name)
		}
	}
}

// The account is the one that charts and manifests run the image as, and the program is where they start it.
func TestChartsAgree(t *testing.T) {
	for _, image := range Images() {
		for _, file := range []string{"charts/" + image.Name + "/values.yaml", "artifacts/flagger/deployment.yaml", "kustomize/base/flagger/deployment.yaml", "kustomize/tester/deployment.yaml"} {
			raw, err := os.ReadFile(top + file)
			if err != nil {
				t.Fatal(err)
			}
			text := string(raw)
			if !regexp.MustCompile(`(?m)\b(image|repository): ` + image.Repository + `(:|$)`).MatchString(text) {
				continue
			}
			if !strings.Contains(text, fmt.Sprintf("runAsUser: %d\n", image.UID)) {
				t.Errorf("%s does not run %s as %d", file, image.Name, image.UID)
			}
			if strings.HasSuffix(file, "deployment.yaml") && !strings.Contains(text, "command: [./"+image.Name+"]\n") {
				t.Errorf("%s does not start ./%s", file, image.Name)
			}
		}
	}
}

// Without certificates no receiver of alerts, webhook or back-end could be reached by https.
func TestCertificates(t *testing.T) {
	if n := strings.Count(string(certificates()), "-----BEGIN CERTIFICATE-----"); n < 100 {
		t.Errorf("%d certificates", n)
	}
}
