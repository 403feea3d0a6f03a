// SPDX-License-Identifier: Apache-2.0
// Chooses among a device's packet sockets (PACKET_FANOUT_EBPF), of which every worker has two, side by side: the first for
// flows that send little, whose packets shall not wait behind those of bulk flows, which go to the second.
//
// A flow is a bucket that runs out at a steady rate. It is bulk from when the bucket is full, or a frame is large, until the
// bucket is empty: by then what was queued for the second socket is long gone, so that nothing overtakes.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FLOWS 16384
// A byte in 128 ns: 7.8 MB/s.
#define NANOSECONDS_PER_BYTE_LOG 7
// What a flow may send at once.
#define FULL (16 << 10)
// A larger frame is bulk: frames of the first socket have one chunk.
#define LARGE 2048
// Bytes that a bulk flow's bucket has at least and at most: it takes 16 to 32 ms without a packet until it is empty.
#define BULK_LEAST (128 << 10)
#define BULK_MOST (256 << 10)

struct bucket {
	__u64 last;
	__u32 bytes;
	__u32 bulk;
};

// Updates are not atomic: two cores that race for one flow lose some bytes of it.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FLOWS);
	__type(key, __u32);
	__type(value, struct bucket);
} buckets SEC(".maps");

static __u32 mix(__u32 hash, __u32 word)
{
	hash = (hash ^ word) * 0x9e3779b1;
	return hash ^ hash >> 15;
}

// Of addresses, protocol and ports, the latter not of fragments, which stay together.
static __u32 flow_hash(struct __sk_buff *skb)
{
	__u32 hash = mix(skb->ifindex, skb->protocol);
	struct iphdr ip;
	__u32 ports;

	if (skb->protocol != bpf_htons(ETH_P_IP) ||
	    bpf_skb_load_bytes_relative(skb, 0, &ip, sizeof(ip), BPF_HDR_START_NET))
		return hash;
	hash = mix(mix(mix(hash, ip.saddr), ip.daddr), ip.protocol);
	if (ip.frag_off & bpf_htons(0x3fff) || (ip.protocol != IPPROTO_TCP && ip.protocol != IPPROTO_UDP) ||
	    bpf_skb_load_bytes_relative(skb, ip.ihl * 4, &ports, sizeof(ports), BPF_HDR_START_NET))
		return hash;
	return mix(hash, ports);
}

static int is_bulk(struct bucket *bucket, __u32 len)
{
	__u64 now = bpf_ktime_get_ns();
	__u64 gone = (now - bucket->last) >> NANOSECONDS_PER_BYTE_LOG;
	__u32 bytes = gone < bucket->bytes ? bucket->bytes - gone : 0;
	int bulk = len > LARGE || bytes + len > FULL || (bucket->bulk && bytes);

	bytes += len;
	if (bulk && bytes < BULK_LEAST)
		bytes = BULK_LEAST;
	if (bytes > BULK_MOST)
		bytes = BULK_MOST;
	bucket->last = now;
	bucket->bytes = bytes;
	bucket->bulk = bulk;
	return bulk;
}

SEC("socket") int lanes(struct __sk_buff *skb)
{
	__u32 hash = flow_hash(skb);
	__u32 slot = hash % FLOWS;
	struct bucket *bucket = bpf_map_lookup_elem(&buckets, &slot);
	int bulk = bucket && is_bulk(bucket, skb->len);

	// The kernel takes it modulo the number of sockets, which is even.
	return hash >> 16 << 1 | bulk;
}

char _license[] SEC("license") = "Apache-2.0";
