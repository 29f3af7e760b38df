/* SPDX-License-Identifier: GPL-2.0 */
/* This file holds what is counted, and told to whoever traces. */
#ifndef TERWAY_COUNTER_ROWS_H
#define TERWAY_COUNTER_ROWS_H

#include "include/flow.h"
#include "include/limits.h"

/* Value of `hook_counts`, keyed by hook. */
struct hook_counters {
	__u64 count[REASON_ROOM];
};

/* Value of `endpoint_counts`, keyed by slot. Slot 0 is nobody's. */
struct endpoint_counters {
	__u64 fast_out_packets;
	__u64 fast_out_bytes;
	__u64 fast_in_packets;
	__u64 fast_in_bytes;
	__u64 stack_packets; /* that the pod sent, and the stack carries on */
	__u64 dropped_packets;
};

/* One record of the ring buffer `trace`. */
struct trace_event {
	__u64 time; /* nanoseconds since boot */
	struct flow flow;
	__u32 ifindex;
	__u32 target;
	__u32 length;
	__u8 hook;
	__u8 verdict;
	__u8 reason;
	__u8 padding[1];
};

_Static_assert(sizeof(struct trace_event) == 64, "no hole");

#endif
