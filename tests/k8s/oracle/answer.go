package main

import (
	"encoding/json"
	"fmt"
	"net"
	"sort"

	v1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/proxy"
)

// Answer is what the proxy derives from one case.
type Answer struct {
	// Ports by "namespace/name:port/PROTOCOL"; a port without a name is "namespace/name/PROTOCOL".
	Ports map[string]Port `json:"ports"`
	// HealthChecks by "namespace/name", for Services with a health check port.
	HealthChecks map[string]HealthCheck `json:"healthChecks"`
}

// Port is one port of one Service.
type Port struct {
	ClusterIP       string   `json:"clusterIP"`
	Port            int      `json:"port"`
	NodePort        int      `json:"nodePort"`
	ExternalIPs     []string `json:"externalIPs"`
	LoadBalancerIPs []string `json:"loadBalancerIPs"`
	SourceRanges    []string `json:"sourceRanges"`
	// AffinitySeconds is 0 without session affinity.
	AffinitySeconds int  `json:"affinitySeconds"`
	InternalLocal   bool `json:"internalLocal"`
	ExternalLocal   bool `json:"externalLocal"`
	UsesCluster     bool `json:"usesCluster"`
	UsesLocal       bool `json:"usesLocal"`
	// Endpoints are all that the slices give for this port, merged.
	Endpoints []Endpoint `json:"endpoints"`
	// Cluster and Local are the usable endpoints under each traffic policy; empty for a policy that is not used.
	Cluster []string `json:"cluster"`
	Local   []string `json:"local"`
	// Any says whether an endpoint is usable anywhere: connections are refused without, dropped with one elsewhere.
	Any bool `json:"any"`
}

// Endpoint is one endpoint, merged over the slices.
type Endpoint struct {
	Address     string `json:"address"`
	Ready       bool   `json:"ready"`
	Serving     bool   `json:"serving"`
	Terminating bool   `json:"terminating"`
}

// HealthCheck is what a Service's health check port tells.
type HealthCheck struct {
	Port      int `json:"port"`
	Endpoints int `json:"endpoints"`
}

func answerCase(objects []json.RawMessage) (Answer, error) {
	read, err := decode(objects)
	if err != nil {
		return Answer{}, err
	}
	ports, endpoints := track(read)
	answer := Answer{Ports: map[string]Port{}, HealthChecks: map[string]HealthCheck{}}
	for name, info := range ports {
		key := fmt.Sprintf("%s/%s", name, name.Protocol)
		answer.Ports[key] = describe(info, endpoints[name], read.node)
	}
	local := endpoints.LocalReadyEndpoints()
	for name, port := range ports.HealthCheckNodePorts() {
		answer.HealthChecks[name.String()] = HealthCheck{Port: int(port), Endpoints: local[name]}
	}
	return answer, nil
}

// track goes the way of kube-proxy: objects to change trackers to maps.
func track(read objects) (proxy.ServicePortMap, proxy.EndpointsMap) {
	services := proxy.NewServiceChangeTracker(v1.IPv4Protocol, nil, nil)
	for i := range read.services {
		services.Update(nil, &read.services[i])
	}
	slices := proxy.NewEndpointsChangeTracker(v1.IPv4Protocol, read.node.Name, nil, nil)
	for i := range read.slices {
		slices.EndpointSliceUpdate(&read.slices[i], false)
	}
	ports, endpoints := proxy.ServicePortMap{}, proxy.EndpointsMap{}
	ports.Update(services)
	endpoints.Update(slices)
	return ports, endpoints
}

func describe(info proxy.ServicePort, endpoints []proxy.Endpoint, node v1.Node) Port {
	cluster, local, _, reachable := proxy.CategorizeEndpoints(endpoints, info, node.Name, node.Labels)
	affinity := 0
	if info.SessionAffinityType() == v1.ServiceAffinityClientIP {
		affinity = info.StickyMaxAgeSeconds()
	}
	return Port{
		ClusterIP:       info.ClusterIP().String(),
		Port:            info.Port(),
		NodePort:        info.NodePort(),
		ExternalIPs:     sorted(info.ExternalIPs(), net.IP.String),
		LoadBalancerIPs: sorted(info.LoadBalancerVIPs(), net.IP.String),
		SourceRanges:    sorted(info.LoadBalancerSourceRanges(), (*net.IPNet).String),
		AffinitySeconds: affinity,
		InternalLocal:   info.InternalPolicyLocal(),
		ExternalLocal:   info.ExternalPolicyLocal(),
		UsesCluster:     info.UsesClusterEndpoints(),
		UsesLocal:       info.UsesLocalEndpoints(),
		Endpoints:       describeAll(endpoints),
		Cluster:         sorted(cluster, proxy.Endpoint.String),
		Local:           sorted(local, proxy.Endpoint.String),
		Any:             reachable,
	}
}

func describeAll(endpoints []proxy.Endpoint) []Endpoint {
	all := make([]Endpoint, 0, len(endpoints))
	for _, e := range endpoints {
		all = append(all, Endpoint{
			Address:     e.String(),
			Ready:       e.IsReady(),
			Serving:     e.IsServing(),
			Terminating: e.IsTerminating(),
		})
	}
	return all
}

// sorted is never nil, so that it is [] in JSON.
func sorted[T any](list []T, text func(T) string) []string {
	texts := make([]string, 0, len(list))
	for _, item := range list {
		texts = append(texts, text(item))
	}
	sort.Strings(texts)
	return texts
}
