// SPDX-License-Identifier: Apache-2.0
// Programs of the node's NIC: for AF_XDP sockets one at XDP, for packet sockets one at tc ingress with a socket filter that
// takes what the other stops. The NIC stays with the kernel: only packets that belong to the dataplane are
// stolen. When it is dead (no socket in the map) those pass as well, but for translated and tunnelled ones that no
// socket of the node waits for: its stack would answer them with a reset and end connections that a restart keeps.
// Anything not understood passes: tagged frames, IPv6, truncated or malformed headers.
//
// Headers are copied with bpf_xdp_load_bytes() or bpf_skb_load_bytes(), which also reach the fragments of a packet and
// fail cleanly on truncated ones. Fields are in network byte order unless said otherwise.
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// RFC 792; <linux/icmp.h> needs a C library.
#define ICMP_ECHOREPLY 0
#define ICMP_DEST_UNREACH 3
#define ICMP_ECHO 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12
#define ICMP_HEADER_LEN 8

#define DIRECT         (1 << 0) // pod packets cross the wire without VXLAN
#define TAKE_FRAGMENTS (1 << 1) // fragments to own addresses are ours

// What is ours. Mirrored by `Config` in src/program/uplink.rs; host byte order where noted.
struct config {
	__be32 snat_address;
	__be32 pod_network; // own podCIDR
	__be32 pod_mask;    // 0: none
	__u16 snat_first;   // host order; first > last: no SNAT
	__u16 snat_last;    // host order, inclusive
	__be16 vxlan_port;  // 0: no VXLAN
	__u16 flags;        // host order
};

// Verdicts, and indices into `counters`. Mirrored by `UplinkCounters`.
enum verdict { PASSED, VXLAN, DIRECT_POD, SNAT, ICMP_ERROR, FRAGMENT, FRONTEND, VERDICTS };

// What an address is, values of `own_addresses`.
#define OWN        (1 << 0) // it is the node's
#define NODE_PORTS (1 << 1) // and NodePorts are served there

// Where a frontend is, values of `frontends`. Mirrored by src/program/uplink/frontends.rs.
#define AT_ADDRESS   (1 << 0) // at the key's address
#define AT_EVERY_OWN (1 << 1) // at every address of the node (hostPort without hostIP); the key's address is 0
#define AT_NODE_PORT (1 << 2) // at addresses with NODE_PORTS; the key's address is 0

// One element with key 0. A hash and not an array, since the kernel replaces a hash element as a whole while
// it overwrites an array's in place under the readers' eyes.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __be32); // an address of this node
	__type(value, __u32);
} own_addresses SEC(".maps");

// A destination that the dataplane translates. Port and protocol 0: the address has some frontend.
struct frontend {
	__be32 address;
	__be16 port;
	__u8 protocol;
	__u8 zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct frontend);
	__type(value, __u32);
} frontends SEC(".maps");

struct prefix {
	__u32 len; // bits, host order
	__be32 address;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix); // podCIDR of another node
	__type(value, __u32);
} peer_pods SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1024);
	__type(key, __u32); // receive queue
	__type(value, __u32);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VERDICTS);
	__type(key, __u32); // enum verdict
	__type(value, __u64);
} counters SEC(".maps");

// The first bytes behind an IPv4 header, enough for every rule: ports, or ICMP type and echo id.
union l4 {
	struct {
		__be16 source;
		__be16 dest;
	} ports;
	struct {
		__u8 type;
		__u8 code;
		__be16 checksum;
		__be16 id;
	} icmp;
	__u8 bytes[8];
};

// A packet that begins with its Ethernet header: of XDP, or a socket buffer.
struct packet {
	void *ctx;
	int is_skb;
};

static __always_inline int load(struct packet packet, __u32 at, void *to, __u32 len)
{
	return packet.is_skb ? bpf_skb_load_bytes(packet.ctx, at, to, len) :
			       bpf_xdp_load_bytes(packet.ctx, at, to, len);
}

static __always_inline int in_own_pods(const struct config *c, __be32 address)
{
	return c->pod_mask && (address & c->pod_mask) == c->pod_network;
}

static __always_inline int in_peer_pods(__be32 address)
{
	struct prefix key = { .len = 32, .address = address };

	return bpf_map_lookup_elem(&peer_pods, &key) != NULL;
}

static __always_inline int in_snat_range(const struct config *c, __be16 port)
{
	__u16 p = bpf_ntohs(port);

	return p >= c->snat_first && p <= c->snat_last;
}

static __always_inline int has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

static __always_inline __u32 own_flags(const struct config *c, __be32 address)
{
	const __u32 *flags = bpf_map_lookup_elem(&own_addresses, &address);

	if (flags)
		return *flags;
	return address && address == c->snat_address ? OWN : 0;
}

static __always_inline __u32 frontend_at(__be32 address, __be16 port, __u8 protocol)
{
	struct frontend key = { .address = address, .port = port, .protocol = protocol };
	const __u32 *where = bpf_map_lookup_elem(&frontends, &key);

	return where ? *where : 0;
}

// Whether `address` (`own`: its flags), port and protocol are a frontend's.
static __always_inline int is_frontend(__u32 own, __be32 address, __be16 port, __u8 protocol)
{
	__u32 where;

	if (!has_ports(protocol) && protocol != IPPROTO_SCTP)
		return 0;
	if (frontend_at(address, port, protocol) & AT_ADDRESS)
		return 1;
	if (!own)
		return 0;
	where = frontend_at(0, port, protocol);
	return where & AT_EVERY_OWN || (where & AT_NODE_PORT && own & NODE_PORTS);
}

// Reads the IPv4 header at `at`; returns where the transport header begins, 0 when there is no such header.
static __always_inline __u32 load_ip(struct packet packet, __u32 at, struct iphdr *ip)
{
	if (load(packet, at, ip, sizeof(*ip)) || ip->version != 4 || ip->ihl < 5)
		return 0;
	return at + ip->ihl * 4;
}

// Whether an ICMP error (RFC 792: at `at`, quoting an IP header and 8 bytes) is about a packet of ours.
// `to` is the error's destination, an address of the node (`own`: its flags) or of a frontend.
static __always_inline int quotes_ours(struct packet packet, const struct config *c, __u32 at, __be32 to, __u32 own)
{
	struct iphdr ip;
	union l4 l4;
	__u32 l4_at = load_ip(packet, at + ICMP_HEADER_LEN, &ip);

	if (!l4_at)
		return 0;
	if (c->flags & DIRECT &&
	    (in_own_pods(c, ip.saddr) || in_own_pods(c, ip.daddr) || in_peer_pods(ip.daddr)))
		return 1;
	if (ip.saddr != to || ip.frag_off & bpf_htons(0x1fff))
		return 0;
	if (load(packet, l4_at, &l4, sizeof(l4)))
		return 0;
	if (ip.protocol == IPPROTO_UDP && c->vxlan_port && l4.ports.dest == c->vxlan_port)
		return 1;
	if (is_frontend(own, to, l4.ports.source, ip.protocol))
		return 1;
	if (to != c->snat_address)
		return 0;
	if (has_ports(ip.protocol))
		return in_snat_range(c, l4.ports.source);
	return ip.protocol == IPPROTO_ICMP && l4.icmp.type == ICMP_ECHO && in_snat_range(c, l4.icmp.id);
}

static __always_inline enum verdict classify_icmp(struct packet packet, const struct config *c, __u32 at,
						  __be32 to, __u32 own, const union l4 *l4)
{
	switch (l4->icmp.type) {
	case ICMP_ECHOREPLY:
		return to == c->snat_address && in_snat_range(c, l4->icmp.id) ? SNAT : PASSED;
	case ICMP_DEST_UNREACH:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETERPROB:
		return quotes_ours(packet, c, at, to, own) ? ICMP_ERROR : PASSED;
	default:
		return PASSED;
	}
}

static __always_inline enum verdict classify(struct packet packet)
{
	__u32 zero = 0, l4_at, own;
	const struct config *c = bpf_map_lookup_elem(&config, &zero);
	__be16 ethertype;
	struct iphdr ip;
	union l4 l4;

	if (!c || load(packet, offsetof(struct ethhdr, h_proto), &ethertype, sizeof(ethertype)))
		return PASSED;
	if (ethertype != bpf_htons(ETH_P_IP))
		return PASSED;
	l4_at = load_ip(packet, sizeof(struct ethhdr), &ip);
	if (!l4_at)
		return PASSED;
	// Without a tunnel in direct mode, and else answers from outside the cluster to pods that are not masqueraded.
	if (in_own_pods(c, ip.daddr))
		return DIRECT_POD;
	// Everything below is addressed to this node, or to an external or load-balancer address of a Service.
	own = own_flags(c, ip.daddr);
	if (!own && !frontend_at(ip.daddr, 0, 0))
		return PASSED;
	if (own && c->flags & DIRECT && in_peer_pods(ip.saddr))
		return DIRECT_POD;
	// More fragments, or an offset: there are no ports to go by, or not in all of them.
	if (ip.frag_off & bpf_htons(0x3fff))
		return c->flags & TAKE_FRAGMENTS ? FRAGMENT : PASSED;
	if (load(packet, l4_at, &l4, sizeof(l4)))
		return PASSED;
	if (ip.protocol == IPPROTO_ICMP)
		return classify_icmp(packet, c, l4_at, ip.daddr, own, &l4);
	if (own && ip.protocol == IPPROTO_UDP && c->vxlan_port && l4.ports.dest == c->vxlan_port)
		return VXLAN;
	if (is_frontend(own, ip.daddr, l4.ports.dest, ip.protocol))
		return FRONTEND;
	if (ip.daddr == c->snat_address && has_ports(ip.protocol) && in_snat_range(c, l4.ports.dest))
		return SNAT;
	return PASSED;
}

// Whether a socket of the node waits for this packet of a stolen kind. SCTP sockets cannot be looked up: none does.
static __always_inline int has_socket(struct packet packet)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;
	struct iphdr ip;
	union l4 l4;
	__u32 l4_at = load_ip(packet, sizeof(struct ethhdr), &ip);

	if (!l4_at || load(packet, l4_at, &l4, sizeof(l4)))
		return 1;
	if (!has_ports(ip.protocol))
		return ip.protocol != IPPROTO_SCTP;
	tuple.ipv4.saddr = ip.saddr;
	tuple.ipv4.daddr = ip.daddr;
	tuple.ipv4.sport = l4.ports.source;
	tuple.ipv4.dport = l4.ports.dest;
	if (ip.protocol == IPPROTO_TCP)
		sk = bpf_skc_lookup_tcp(packet.ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	else
		sk = bpf_sk_lookup_udp(packet.ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 0;
	bpf_sk_release(sk);
	return 1;
}

static __always_inline void count(__u32 verdict)
{
	__u64 *counter = bpf_map_lookup_elem(&counters, &verdict);

	if (counter)
		(*counter)++;
}

// Whether a packet that no socket of the dataplane takes must not reach the node's stack.
static __always_inline int is_kept_from_node(struct packet packet, __u32 verdict)
{
	return (verdict == SNAT || verdict == VXLAN || verdict == FRONTEND) && !has_socket(packet);
}

static __always_inline int steer(struct xdp_md *ctx)
{
	struct packet packet = { .ctx = ctx };
	__u32 verdict = classify(packet);
	int action;

	count(verdict);
	if (verdict == PASSED)
		return XDP_PASS;
	action = bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS);
	if (action == XDP_REDIRECT)
		return action;
	return is_kept_from_node(packet, verdict) ? XDP_DROP : XDP_PASS;
}

SEC("xdp.frags") int uplink(struct xdp_md *ctx)
{
	return steer(ctx);
}

// For drivers without multi-buffer XDP.
SEC("xdp") int uplink_plain(struct xdp_md *ctx)
{
	return steer(ctx);
}

// Tags stand beside a socket buffer's bytes.
static __always_inline enum verdict classify_skb(struct __sk_buff *skb)
{
	struct packet packet = { .ctx = skb, .is_skb = 1 };

	return skb->vlan_present ? PASSED : classify(packet);
}

// Stops what packet sockets have taken before: so long as the first element of `sockets` stands, which goes with the process.
SEC("classifier") int uplink_tc(struct __sk_buff *skb)
{
	struct packet packet = { .ctx = skb, .is_skb = 1 };
	__u32 verdict = classify_skb(skb), first = 0;

	count(verdict);
	if (verdict == PASSED)
		return TC_ACT_UNSPEC;
	if (bpf_map_lookup_elem(&sockets, &first))
		return TC_ACT_SHOT;
	return is_kept_from_node(packet, verdict) ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

// What a packet socket takes: all bytes, or none.
SEC("socket") int uplink_filter(struct __sk_buff *skb)
{
	return classify_skb(skb) == PASSED ? 0 : -1;
}

char _license[] SEC("license") = "Apache-2.0";
