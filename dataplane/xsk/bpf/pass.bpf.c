// SPDX-License-Identifier: Apache-2.0
// Passes every packet. On the far end of a veth in tests it switches that end's NAPI receive path on, which a
// native program on the near end needs.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp.frags") int pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char _license[] SEC("license") = "Apache-2.0";
