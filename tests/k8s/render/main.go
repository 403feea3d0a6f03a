// Command render prints the objects that a kustomization or a Helm chart stands for, as a JSON list in the order of their names.
//
// Both are done by the libraries that kubectl and helm are made of.
package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// namespace is where `helm install` is told to put the release; the kustomizations name it themselves.
const namespace = "kube-system"

type object = map[string]any

func main() {
	var objects []object
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == "kustomize":
		objects, err = kustomize(os.Args[2])
	case len(os.Args) == 4 && os.Args[1] == "helm":
		objects, err = helm(os.Args[2], os.Args[3])
	default:
		err = fmt.Errorf("usage: render kustomize DIRECTORY | render helm CHART VALUES-AS-YAML")
	}
	if err == nil {
		slices.SortFunc(objects, func(a, b object) int { return cmp.Compare(name(a), name(b)) })
		err = json.NewEncoder(os.Stdout).Encode(objects)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func kustomize(directory string) ([]object, error) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), directory)
	if err != nil {
		return nil, err
	}
	var objects []object
	for _, resource := range resources.Resources() {
		object, err := resource.Map()
		if err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
	return objects, nil
}

// helm also checks the values against the chart's schema.
func helm(chart, values string) ([]object, error) {
	loaded, err := loader.Load(chart)
	if err != nil {
		return nil, err
	}
	given, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		return nil, err
	}
	release := chartutil.ReleaseOptions{Name: "headrace", Namespace: namespace, IsInstall: true, Revision: 1}
	all, err := chartutil.ToRenderValues(loaded, given, release, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(loaded, all)
	if err != nil {
		return nil, err
	}
	var objects []object
	for file, text := range files {
		if strings.HasSuffix(file, ".txt") {
			continue
		}
		for _, document := range strings.Split("\n"+text, "\n---") {
			var object object
			if err := yaml.Unmarshal([]byte(document), &object); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			if object != nil {
				objects = append(objects, object)
			}
		}
	}
	return objects, nil
}

func name(o object) string {
	metadata, _ := o["metadata"].(object)
	return fmt.Sprint(o["kind"], "/", metadata["name"])
}
