package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"

	"flagger.app/flagger/hack/testbed/internal/control"
)

// defaultImages are known to every node. They cost nothing: the program is
// part of the control plane.
func defaultImages() []string {
	var images []string
	for _, repository := range []string{"kubectl", "bitnami/kubectl", "rancher/kubectl"} {
		images = append(images, repository+":*=@"+controlPlane+"/kubectl")
	}
	return images
}

// addImage adds the mapping name=program[,argument…]. The program is a path,
// or @component[/program] for something the testbed builds. The name is an
// image reference, or a repository with :* or @* for all its tags or digests.
func addImage(images map[string]control.Image, mapping string) error {
	name, value, ok := strings.Cut(mapping, "=")
	if !ok || name == "" || value == "" {
		return fmt.Errorf("--image %q: write it as name=path[,argument…] or name=@component[/program][,argument…]", mapping)
	}
	parts := strings.Split(value, ",")
	image := control.Image{Args: parts[1:]}
	if component, ok := strings.CutPrefix(parts[0], "@"); ok {
		image.Component, image.Program, _ = strings.Cut(component, "/")
	} else {
		image.Path = parts[0]
	}
	if err := resolveImage(&image); err != nil {
		return fmt.Errorf("--image %q: %w", mapping, err)
	}
	images[name] = image
	return nil
}

// addImageFile adds the mappings of a YAML file: image names to objects with
// the fields path, or component and program, and args and env.
func addImageFile(images map[string]control.Image, file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("--images: %w", err)
	}
	var read map[string]control.Image
	if err := yaml.UnmarshalStrict(content, &read); err != nil {
		return fmt.Errorf("--images %s: %w", file, err)
	}
	for name, image := range read {
		if err := resolveImage(&image); err != nil {
			return fmt.Errorf("--images %s: %s: %w", file, name, err)
		}
		images[name] = image
	}
	return nil
}

// resolveImage checks an image and makes its path absolute.
func resolveImage(image *control.Image) error {
	switch {
	case image.Path == "" && image.Component == "":
		return errors.New("neither a path nor a component is given")
	case image.Path != "" && image.Component != "":
		return errors.New("both a path and a component are given; leave one out")
	case image.Component != "":
		if image.Program == "" {
			image.Program = image.Component
		}
		return nil
	}
	path, err := filepath.Abs(image.Path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("%s is not a program", path)
	}
	image.Path = path
	return nil
}
