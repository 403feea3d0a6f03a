#!/bin/sh
# Pictures of the dashboard with a lab behind it: screenshots.sh FOLDER (from the repository's top folder, as root).
set -eu
folder=$1
name=shots-$$
lab() { verb=$1; shift; target/release/headrace-lab "$verb" --name "$name" "$@"; }
files=$(mktemp -d)
trap 'lab down; rm -r "$files"' EXIT INT TERM
mkdir -p "$folder"

lab up --nodes 3 --pods 4 --workers 2 >/dev/null
for node in node1 node2 node3; do
	cat >"/run/headrace-lab/$name/$node/manifests/shop.yaml" <<-'YAML'
		apiVersion: v1
		kind: Service
		metadata: {name: shop, namespace: default}
		spec: {type: ClusterIP, clusterIP: 10.96.0.80, ports: [{name: http, port: 80, protocol: TCP}]}
		---
		apiVersion: discovery.k8s.io/v1
		kind: EndpointSlice
		metadata: {name: shop-1, namespace: default, labels: {kubernetes.io/service-name: shop}}
		addressType: IPv4
		ports: [{name: http, port: 5201, protocol: TCP}]
		endpoints:
		- {addresses: [10.244.1.3], conditions: {ready: true}}
		- {addresses: [10.244.2.2], conditions: {ready: true}}
		- {addresses: [10.244.3.2], conditions: {ready: true}}
	YAML
done
# Everything below runs in the lab, so taking it down ends it.
for pod in node1-pod2 node2-pod1 node3-pod1; do
	lab exec "$pod" -- busybox httpd -f -p 5201 -h "$files" >/dev/null 2>&1 &
	lab exec "$pod" -- iperf3 -s -p 5202 >/dev/null 2>&1 &
done
head -c 10M /dev/zero >"$files/parcel"
sleep 1
lab exec node1-pod1 -- iperf3 -c 10.244.2.2 -p 5202 -t 600 -b 250M >/dev/null 2>&1 &
lab exec node1-pod3 -- iperf3 -c 10.244.1.3 -p 5202 -t 600 -b 900M >/dev/null 2>&1 &
lab exec node3-pod2 -- iperf3 -c 10.244.3.2 -p 5202 -t 600 -b 50M >/dev/null 2>&1 &
lab exec node1-pod4 -- sh -c 'while :; do busybox wget -q -O /dev/null http://10.96.0.80/parcel; sleep 0.3; done' >/dev/null 2>&1 &
lab exec node1-pod2 -- ping -q -i 0.2 10.96.7.7 >/dev/null 2>&1 &
# Not by the function: its process would be a shell of its own, which is not who serves.
target/release/headrace-lab dashboard --name "$name" node1 --listen 19480 &
forward=$!
trap 'kill $forward; lab down; rm -r "$files"' EXIT INT TERM
sleep "${SECONDS_OF_TRAFFIC:-90}"
node control/web/e2e/screenshots.js http://127.0.0.1:19480/ "$folder"
