// Package jail starts programs of an unpacked image that see the files of that image and no others, as a container does, without root:
// by unshare of util-linux, in a namespace of users.
package jail

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// enter mounts what every runtime mounts, and goes on as another user inside.
const enter = `root=$1 user=$2 group=$3 dir=$4
shift 4
mount --rbind /proc "$root/proc" && mount --rbind /dev "$root/dev" &&
  exec unshare --user --map-user="$user" --map-group="$group" --root="$root" --wd="$dir" "$@"`

// Command is a program in the folder root, with the account, the folder and the environment of the image. The test is skipped where users
// may have no namespaces of their own.
func Command(t *testing.T, root string, config *v1.Config, program ...string) *exec.Cmd {
	t.Helper()
	if out, err := exec.Command("unshare", "--user", "--map-root-user", "--mount", "true").CombinedOutput(); err != nil {
		t.Skipf("no namespace of users: %v: %s", err, out)
	}
	for _, dir := range []string{"proc", "dev"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var user, group int
	if _, err := fmt.Sscanf(config.User, "%d:%d", &user, &group); err != nil {
		t.Fatalf("user %q of the image: want UID:GID: %v", config.User, err)
	}
	args := []string{"--user", "--map-root-user", "--mount", "sh", "-c", enter, "enter", root, fmt.Sprint(user), fmt.Sprint(group), config.WorkingDir}
	command := exec.CommandContext(t.Context(), "unshare", append(args, program...)...)
	// The shell outside needs a PATH, too; that of images has what is usual.
	command.Env = config.Env
	return command
}
