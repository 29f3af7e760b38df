/* SPDX-License-Identifier: GPL-2.0 */
/*
 * This file holds the fabric's tables. Python writes all but the counts and what is in the tables of an instance:
 * its sessions and its datagrams, which nobody else can fill or push out.
 */
#ifndef TERWAY_FABRIC_MAPS_H
#define TERWAY_FABRIC_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "include/fabric.h"

#define PORTS_MAX     4096
#define ADDRESSES_MAX 65536
#define PREFIXES_MAX  16384
#define SESSIONS_MAX  250000
#define DATAGRAMS_MAX 4096

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PORTS_MAX);
	__type(key, __u32);
	__type(value, struct port);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PORTS_MAX);
	__type(key, struct attach_point);
	__type(value, struct home);
} port_ids SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ADDRESSES_MAX);
	__type(key, struct address);
	__type(value, struct home);
} assigned SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, PREFIXES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, struct prefix_value);
} prefixes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RULE_ROWS);
	__type(key, __u32);
	__type(value, struct rule);
} rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

/* Nobody reads them: they make BTF carry the types of what lies in tables of tables. */
const volatile struct flow_state flow_state_type = {};
const volatile struct datagram_state datagram_state_type = {};
const volatile struct flow flow_type = {};
const volatile struct datagram datagram_type = {};

/* The rows are made as they are needed, since few instances ever have as many sessions as they may. */
struct session_table {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SESSIONS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct flow);
	__type(value, struct flow_state);
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, PORTS_MAX);
	__type(key, __u32);
	__array(values, struct session_table);
} sessions SEC(".maps");

struct datagram_table {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, DATAGRAMS_MAX);
	__type(key, struct datagram);
	__type(value, struct datagram_state);
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, PORTS_MAX);
	__type(key, __u32);
	__array(values, struct datagram_table);
} datagrams SEC(".maps");

/* When the sessions of a port's instance were last gone through for those that are over. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, PORTS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} swept SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PORTS_MAX);
	__type(key, __u32);
	__type(value, struct lease);
} leases SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, PORTS_MAX);
	__type(key, __u32);
	__type(value, struct port_counters);
} counters SEC(".maps");

static __always_inline struct port *port_find(__u32 port_id)
{
	return bpf_map_lookup_elem(&ports, &port_id);
}

/* The port of frames that come in at `ifindex` with tag `vlan`. */
static __always_inline struct port *port_at(__u32 ifindex, __u32 vlan)
{
	struct attach_point point = {.ifindex = ifindex, .vlan = vlan};
	struct home *home = bpf_map_lookup_elem(&port_ids, &point);

	return home ? port_find(home->port_id) : (void *)0;
}

static __always_inline struct settings *settings_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

#endif
