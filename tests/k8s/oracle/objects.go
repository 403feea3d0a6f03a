package main

import (
	"encoding/json"
	"errors"
	"fmt"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// objects are those of a case that kube-proxy would get to see.
type objects struct {
	node     v1.Node
	services []v1.Service
	slices   []discovery.EndpointSlice
}

// notOurs are the labels of objects that kube-proxy does not list (cmd/kube-proxy/app/server.go).
var notOurs = []string{"service.kubernetes.io/service-proxy-name", v1.IsHeadlessService}

func decode(raw []json.RawMessage) (objects, error) {
	var read objects
	for _, text := range raw {
		var kind metav1.TypeMeta
		if err := json.Unmarshal(text, &kind); err != nil {
			return read, fmt.Errorf("object: %w", err)
		}
		if err := read.add(kind.Kind, text); err != nil {
			return read, fmt.Errorf("%s: %w", kind.Kind, err)
		}
	}
	if read.node.Name == "" {
		return read, errors.New("a case has no Node")
	}
	return read, nil
}

func (read *objects) add(kind string, text []byte) error {
	switch kind {
	case "Node":
		if read.node.Name != "" {
			return nil
		}
		return json.Unmarshal(text, &read.node)
	case "Service":
		var service v1.Service
		if err := json.Unmarshal(text, &service); err != nil {
			return err
		}
		if listed(service.Labels) {
			read.services = append(read.services, service)
		}
		return nil
	case "EndpointSlice":
		var slice discovery.EndpointSlice
		if err := json.Unmarshal(text, &slice); err != nil {
			return err
		}
		if listed(slice.Labels) {
			read.slices = append(read.slices, slice)
		}
		return nil
	default:
		return errors.New("is no kind that a proxy reads")
	}
}

func listed(labels map[string]string) bool {
	for _, label := range notOurs {
		if _, has := labels[label]; has {
			return false
		}
	}
	return true
}
