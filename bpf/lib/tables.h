/* SPDX-License-Identifier: GPL-2.0 */
/*
 * This file holds the tables that the programs of a node share; the loader gives them one pin each. Python
 * writes all but the flows, the counts and the trace.
 */
#ifndef TERWAY_LIB_TABLES_H
#define TERWAY_LIB_TABLES_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "include/datapath.h"

/* Nobody reads these: they make BTF carry the enums to Python. */
const volatile enum datapath_limit datapath_limit_type = DATAPATH_VERSION;
const volatile enum hook hook_type = HOOK_COUNT;
const volatile enum verdict verdict_type = VERDICT_STACK;
const volatile enum reason reason_type = REASON_COUNT;
const volatile enum endpoint_flag endpoint_flag_type = ENDPOINT_OFF;
const volatile enum setting_flag setting_flag_type = SETTING_FAST;
const volatile enum flow_kind flow_kind_type = FLOW_KINDS;
const volatile enum device_kind device_kind_type = DEVICE_VETH;
const volatile struct trace_event trace_event_type = {};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ENDPOINTS_MAX);
	__type(key, struct address);
	__type(value, struct endpoint);
} endpoints SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PODS_MAX);
	__type(key, __u32);
	__type(value, struct pod);
} pods SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY); /* whose look-up is no call, as each packet from or to the VPC has one */
	__uint(max_entries, UPLINKS_MAX);
	__type(key, __u32);
	__type(value, struct uplink);
} uplinks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, STACK_PREFIXES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct stack_prefix);
	__type(value, struct stack_prefix_value);
} stack_prefixes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, STACK_FLOWS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct flow_key);
	__type(value, struct stack_flow);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS_MAX);
	__uint(map_flags, BPF_F_MMAPABLE); /* the agent writes single fields beside the programs */
	__type(key, __u32);
	__type(value, struct flow_owner);
} flow_owners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS_MAX *FLOW_EPOCHS);
	__type(key, __u32);
	__type(value, struct flow_count);
} flow_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS_MAX *FLOW_EPOCHS);
	__type(key, __u32);
	__type(value, struct flow_kept);
} flow_kept SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HOOK_COUNT);
	__type(key, __u32);
	__type(value, struct hook_counters);
} hook_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SLOTS_MAX);
	__type(key, __u32);
	__type(value, struct endpoint_counters);
} endpoint_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, TRACE_BYTES);
} trace SEC(".maps");

static __always_inline struct settings *settings_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

/* Null if there is none that can be used. */
static __always_inline struct uplink *uplink_get(__u32 id)
{
	struct uplink *found = bpf_map_lookup_elem(&uplinks, &id);

	return found && found->ifindex ? found : (void *)0;
}

static __always_inline enum stack_kind stack_kind_of(const struct address *destination)
{
	struct stack_prefix key = {.length = 128, .network = *destination};
	struct stack_prefix_value *found = bpf_map_lookup_elem(&stack_prefixes, &key);

	return found ? found->kind : KIND_NONE;
}

#endif
