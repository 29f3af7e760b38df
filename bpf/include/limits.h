/* SPDX-License-Identifier: GPL-2.0 */
/* This file holds the version of the rows that are pinned, and how much room there is for each kind. */
#ifndef TERWAY_LIMITS_H
#define TERWAY_LIMITS_H

enum datapath_limit {
	DATAPATH_VERSION = 3,
	/* Room for reasons in a row of `hook_counts`, so that a new one changes no layout. */
	REASON_ROOM = 64,
	ENDPOINTS_MAX = 4096,
	PODS_MAX = 2048,
	UPLINKS_MAX = 1024,
	STACK_PREFIXES_MAX = 65536,
	STACK_FLOWS_MAX = 262144,
	FLOWS_PER_POD = 8192, /* in one epoch of `flows` */
	FLOW_EPOCHS = 4,      /* of which two are in use: see flow_table.h */
	PEERS_NOTED = 2048,   /* a power of two: see peer_of() */
	SLOTS_MAX = 2048,
	TRACE_BYTES = 262144,
};

#endif
