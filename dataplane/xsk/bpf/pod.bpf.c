// SPDX-License-Identifier: Apache-2.0
// XDP program of all pod ports and of the dataplane's end of the host link: every packet goes to the port's
// socket for the receive queue. When there is none, because the dataplane is dead or the port is not set up
// yet, the packet is dropped: a pod never reaches the node's network stack past the dataplane (fail closed).
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

// Where a device's sockets stand in `sockets`.
struct port {
	__u32 base;   // index of queue 0's socket
	__u32 queues; // number of sockets
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32); // ifindex
	__type(value, struct port);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

static __always_inline int to_socket(struct xdp_md *ctx)
{
	__u32 ifindex = ctx->ingress_ifindex;
	struct port *port = bpf_map_lookup_elem(&ports, &ifindex);

	if (!port || ctx->rx_queue_index >= port->queues)
		return XDP_DROP;
	return bpf_redirect_map(&sockets, port->base + ctx->rx_queue_index, XDP_DROP);
}

SEC("xdp.frags") int pod(struct xdp_md *ctx)
{
	return to_socket(ctx);
}

// For kernels and drivers without multi-buffer XDP.
SEC("xdp") int pod_plain(struct xdp_md *ctx)
{
	return to_socket(ctx);
}

char _license[] SEC("license") = "Apache-2.0";
