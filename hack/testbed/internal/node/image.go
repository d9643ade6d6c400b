package node

import (
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
)

// resolveImage finds the program of an image reference: the exact reference
// first, then its repository with "*" for the tag or the digest.
func resolveImage(images map[string]Image, ref string) (Image, error) {
	repository := imageRepository(ref)
	for _, key := range []string{ref, shortReference(ref), repository + ":*", repository + "@*"} {
		image, ok := images[key]
		if !ok {
			continue
		}
		info, err := os.Stat(image.Path)
		if err != nil {
			return Image{}, fmt.Errorf("image %q: its program is not there (yet): %w", ref, err)
		}
		if info.IsDir() || info.Mode()&0o111 == 0 {
			return Image{}, fmt.Errorf("image %q: %s is not an executable file", ref, image.Path)
		}
		return image, nil
	}
	known := slices.Sorted(maps.Keys(images))
	return Image{}, fmt.Errorf("image %q stands for no program here; known images: %s; map it with --image %s:*=/path/to/program",
		ref, strings.Join(known, ", "), repository)
}

// imageRepository is the reference without tag, digest and default registry.
func imageRepository(ref string) string {
	ref, _, _ = strings.Cut(shortReference(ref), "@")
	// A colon before the last slash belongs to the port of the registry.
	if colon := strings.LastIndexByte(ref, ':'); colon > strings.LastIndexByte(ref, '/') {
		ref = ref[:colon]
	}
	return ref
}

func shortReference(ref string) string {
	for _, registry := range []string{"docker.io/", "index.docker.io/"} {
		ref = strings.TrimPrefix(ref, registry)
	}
	return strings.TrimPrefix(ref, "library/")
}

// imageNames are the names under which manifests call the program of an image.
func imageNames(image Image, ref string) []string {
	names := []string{path.Base(image.Path)}
	if name := path.Base(imageRepository(ref)); name != names[0] {
		names = append(names, name)
	}
	return names
}

// entrypoint is the argument vector of a container. As in Kubernetes, command
// replaces the entrypoint of the image and args its arguments; a command that
// names the program of the image ("./podinfo", "/usr/bin/flagger") means that
// program, wherever it lies here. lookup finds any other command.
func entrypoint(image Image, ref string, command, args []string, lookup func(string) (string, error)) ([]string, error) {
	argv := append([]string{image.Path}, image.Args...)
	if len(command) == 0 {
		return append(argv, args...), nil
	}
	if slices.Contains(imageNames(image, ref), path.Base(command[0])) {
		return append(append(argv, command[1:]...), args...), nil
	}
	program, err := lookup(command[0])
	if err != nil {
		return nil, fmt.Errorf("command %q is neither the program of image %q (%s) nor one of this machine: %w",
			command[0], ref, strings.Join(imageNames(image, ref), ", "), err)
	}
	return append(append([]string{program}, command[1:]...), args...), nil
}
