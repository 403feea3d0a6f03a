// SPDX-License-Identifier: Apache-2.0
// tc ingress program of ports that a packet socket serves. The socket has had its copy of the frame when this runs; the
// kernel's own copy ends here, also while no socket is open because the dataplane is dead: a pod never reaches the
// node's network stack past the dataplane (fail closed).
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

SEC("classifier") int guard(struct __sk_buff *skb)
{
	return TC_ACT_SHOT;
}

char _license[] SEC("license") = "Apache-2.0";
