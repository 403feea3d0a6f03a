// SPDX-License-Identifier: Apache-2.0
// The shortcut of ports that packet sockets serve: packets of flows in `ways` go from one pod's device to the other's
// without userspace. Two programs see each packet, one right after the other: the filter of the port's packet socket
// decides whether the socket or the shortcut has it, and the tc program carries that out. What is in any way unusual is
// the socket's; so is every packet that ends a connection, and with it the flow's way ends, in both directions.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MAX_WAYS 4096
#define DONT_FRAGMENT 0x4000
#define FIN 0x01
#define SYN 0x02
#define RST 0x04
#define ACK 0x10
// In skb->cb[0] between the two programs: the socket has left the packet to the shortcut.
#define LEFT 0x53684f52

struct key {
	__u32 ifindex; // where the packet comes in
	__be32 source;
	__be32 destination;
	__be16 source_port;
	__be16 destination_port;
	__u32 protocol;
};

struct way {
	__u32 device;   // whose other end gets the packet
	__u32 record;   // index in `records`
	__u32 routes;   // generations in which it is right
	__u32 services;
	__u8 ethernet[12]; // destination and source
};

// Read by userspace through a mapping.
struct record {
	__u64 frames;
	__u64 bytes;       // of IP packets
	__u64 superframes; // of them, frames longer than a chunk
	__u64 ended;       // the connection has begun to end
};

// Written by userspace through a mapping.
struct control {
	__u32 routes;   // generations in force
	__u32 services;
	__u32 paused;
	__u32 chunk;    // bytes of a chunk
	__u64 lost;     // packets whose way ended between the two programs
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_WAYS);
	__type(key, struct key);
	__type(value, struct way);
} ways SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_WAYS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct record);
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct control);
} control SEC(".maps");

// Its only element goes with the process, and the shortcut with it.
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} lease SEC(".maps");

// Up to the ports.
struct headers {
	__u16 pad; // so that addresses are aligned
	struct ethhdr ether;
	struct iphdr ip;
	__be16 source_port;
	__be16 destination_port;
};

#define HEADERS_LEN (sizeof(struct headers) - sizeof(__u16))

// Behind the ports.
struct tcp_rest {
	__be32 sequence;
	__be32 acknowledgment;
	__u8 offset; // upper half, in words
	__u8 flags;
};

struct udp_rest {
	__be16 length;
	__be16 checksum;
};

static __always_inline int has_valid_sum(const struct iphdr *ip)
{
	const __u16 *words = (const __u16 *)ip;
	__u32 sum = 0;

	for (int i = 0; i < 10; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

// Reads headers that have nothing unusual. Returns the TCP flags with ACK, which UDP is given too; 0 = unusual.
static __always_inline int usual(struct __sk_buff *skb, struct headers *h, struct key *key)
{
	__u32 rest_at = HEADERS_LEN, len;
	int flags = ACK;

	if (skb->vlan_present || bpf_skb_load_bytes(skb, 0, &h->ether, HEADERS_LEN))
		return 0;
	// To the gateway's MAC address, as ARP tells it to pods.
	for (int i = 0; i < ETH_ALEN; i++)
		if (h->ether.h_dest[i] != 0xee)
			return 0;
	len = bpf_ntohs(h->ip.tot_len);
	if (h->ether.h_proto != bpf_htons(ETH_P_IP) || *(__u8 *)&h->ip != 0x45 || h->ip.ttl <= 1 ||
	    (h->ip.frag_off & ~bpf_htons(DONT_FRAGMENT)) || len + ETH_HLEN != skb->len || !has_valid_sum(&h->ip))
		return 0;
	if (h->ip.protocol == IPPROTO_TCP) {
		struct tcp_rest tcp;
		__u32 header_len;

		if (bpf_skb_load_bytes(skb, rest_at, &tcp, sizeof(tcp)))
			return 0;
		header_len = (tcp.offset >> 4) * 4;
		if (header_len < 20 || sizeof(struct iphdr) + header_len > len || !(tcp.flags & (ACK | FIN | SYN | RST)))
			return 0;
		flags = tcp.flags | ACK;
	} else if (h->ip.protocol == IPPROTO_UDP) {
		struct udp_rest udp;

		if (bpf_skb_load_bytes(skb, rest_at, &udp, sizeof(udp)) ||
		    bpf_ntohs(udp.length) + sizeof(struct iphdr) != len)
			return 0;
	} else {
		return 0;
	}
	key->ifindex = skb->ifindex;
	key->source = h->ip.saddr;
	key->destination = h->ip.daddr;
	key->source_port = h->source_port;
	key->destination_port = h->destination_port;
	key->protocol = h->ip.protocol;
	return flags;
}

static __always_inline struct record *record_of(const struct way *way)
{
	__u32 at = way->record;

	return bpf_map_lookup_elem(&records, &at);
}

static __always_inline struct control *control_of(void)
{
	__u32 first = 0;

	return bpf_map_lookup_elem(&control, &first);
}

// Whether what was decided for a flow still holds. TCP connections keep where they go when Services change.
static __always_inline int holds(const struct way *way, const struct record *record, const struct control *c,
				 __u32 protocol)
{
	return !c->paused && way->routes == c->routes && !record->ended &&
	       (protocol == IPPROTO_TCP || way->services == c->services);
}

// A connection begins to end: neither direction goes on here.
static __always_inline void end(const struct key *key, const struct way *way, struct record *record)
{
	struct key reversed = {
		.ifindex = way->device,
		.source = key->destination,
		.destination = key->source,
		.source_port = key->destination_port,
		.destination_port = key->source_port,
		.protocol = key->protocol,
	};
	struct way *other = bpf_map_lookup_elem(&ways, &reversed);

	record->ended = 1;
	if (!other)
		return;
	record = record_of(other);
	if (record)
		record->ended = 1;
}

// What the port's packet socket takes: all of the packet, or nothing.
SEC("socket") int shortcut_filter(struct __sk_buff *skb)
{
	struct control *c = control_of();
	struct record *record;
	struct headers h;
	struct key key;
	struct way *way;
	int flags;

	skb->cb[0] = 0;
	flags = usual(skb, &h, &key);
	if (!flags || !c)
		return -1;
	way = bpf_map_lookup_elem(&ways, &key);
	if (!way)
		return -1;
	record = record_of(way);
	if (!record)
		return -1;
	if (flags & (FIN | SYN | RST)) {
		end(&key, way, record);
		return -1;
	}
	if (!holds(way, record, c, key.protocol))
		return -1;
	skb->cb[0] = LEFT;
	return 0;
}

static __always_inline int lose(struct control *c)
{
	if (c)
		__sync_fetch_and_add(&c->lost, 1);
	return TC_ACT_SHOT;
}

static __always_inline void count(struct record *record, const struct control *c, __u32 len)
{
	__sync_fetch_and_add(&record->frames, 1);
	__sync_fetch_and_add(&record->bytes, len - ETH_HLEN);
	if (len > c->chunk)
		__sync_fetch_and_add(&record->superframes, 1);
}

// One hop less to live. The checksum follows as in RFC 1624; the two bytes that change begin a word with the protocol.
static __always_inline void age(struct iphdr *ip)
{
	__u32 sum = (__u32)ip->check + bpf_htons(0x0100);

	ip->check = sum + (sum >= 0xffff);
	ip->ttl--;
}

// Carries on what the socket has left, and ends everything else: the socket has it, or nobody shall, because the
// dataplane is dead (fail closed).
SEC("classifier") int shortcut(struct __sk_buff *skb)
{
	struct control *c = control_of();
	struct record *record;
	__u32 first = 0;
	struct headers h;
	struct key key;
	struct way *way;
	int flags;

	if (skb->cb[0] != LEFT || !bpf_map_lookup_elem(&lease, &first))
		return TC_ACT_SHOT;
	skb->cb[0] = 0;
	flags = usual(skb, &h, &key);
	if (!flags || flags & (FIN | SYN | RST) || !c)
		return lose(c);
	way = bpf_map_lookup_elem(&ways, &key);
	if (!way)
		return lose(c);
	record = record_of(way);
	if (!record || !holds(way, record, c, key.protocol))
		return lose(c);
	__builtin_memcpy(&h.ether, way->ethernet, sizeof(way->ethernet));
	age(&h.ip);
	// The device at which it came in took it for a stranger's, by its MAC address; newer kernels see to that themselves.
	if (bpf_skb_store_bytes(skb, 0, &h.ether, HEADERS_LEN, 0) || bpf_skb_change_type(skb, PACKET_HOST))
		return lose(c);
	count(record, c, skb->len);
	return bpf_redirect_peer(way->device, 0);
}

char _license[] SEC("license") = "Apache-2.0";
