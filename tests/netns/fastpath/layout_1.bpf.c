// SPDX-License-Identifier: GPL-2.0
/*
 * This file holds the maps of layout 1 as the first release had them, with programs that leave everything to the
 * stack: what a node has pinned that was never updated.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include "include/address.h"
#include "include/flow.h"

struct macs {
	__u8 to[6];
	__u8 from[6];
};

struct endpoint {
	__u32 host_ifindex;
	__u32 eni_ifindex;
	struct macs macs;
	__u32 mtu;
	__u32 flags;
	__u32 slot;
};

struct pod {
	__u8 mac[6];
	__u8 padding[2];
	__u32 flags;
	__u32 slot;
	__u32 eni_ifindex;
	struct address v4;
	struct address v6;
};

struct stack_flow {
	__u64 noted;
};

struct stack_pairs {
	__u8 noted[65536];
};

struct settings {
	__u32 flags;
	__u32 fast_mark;
	struct address trace_address;
	__u32 home_ifindex;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct address);
	__type(value, struct endpoint);
} endpoints SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__type(key, __u32);
	__type(value, struct pod);
} pods SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct flow);
	__type(value, struct stack_flow);
} stack_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct stack_pairs);
} stack_pairs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

SEC("tc")
int pod_egress(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "GPL";
