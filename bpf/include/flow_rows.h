/* SPDX-License-Identifier: GPL-2.0 */
/* This file holds what is known of the flows that the stack carries. */
#ifndef TERWAY_FLOW_ROWS_H
#define TERWAY_FLOW_ROWS_H

#include "include/address.h"
#include "include/limits.h"

/* How long a flow may be idle before the kernel's conntrack forgets it; each has a row of `settings`. */
enum flow_kind {
	FLOW_TCP_BRIEF = 0,   /* opening, or reset */
	FLOW_TCP_OPEN = 1,    /* established */
	FLOW_TCP_CLOSING = 2, /* one side has said FIN */
	FLOW_UDP = 3,
	FLOW_SCTP = 4,
	FLOW_OTHER = 5,
	FLOW_KINDS,
};

/* A pod as the owner of a flow's end. All zero: no pod of this node. */
struct owner {
	__u32 slot;
	__u32 generation;
};

/* Key of `flows`: the same for both directions, as `low` is the lesser end whoever sends. */
struct flow_key {
	struct address low;
	struct address high;
	__be16 low_port;
	__be16 high_port;
	__u8 protocol;
	__u8 epoch; /* of those in which rows are kept: see flow_table.h */
	__u8 padding[2];
};

_Static_assert(sizeof(struct flow_key) == 40, "keys are compared by byte");

/* Value of `flows`: a flow that the stack carries. It is void once an end has another owner. */
struct stack_flow {
	__u64 seen; /* nanoseconds since boot */
	struct owner low;
	struct owner high;
	__u32 flow_kind; /* enum flow_kind */
	__u32 charged;	 /* slot of the pod whose share it is of */
};

_Static_assert(sizeof(struct stack_flow) == 32, "no hole");

/*
 * Value of `flow_owners`, keyed by slot: what is known of a pod's flows by the stack. `noted` is 1 where the
 * stack has sent something between the pod and a peer of that hash, which spares all others the look-up of their
 * flow; a pod of this node is a peer as itself, anybody else by the address. What is 1 stays so until the slot has another pod: that costs a look-up, a wrong 0 a
 * connection.
 */
struct flow_owner {
	__u64 blind_until;    /* until then flows without a record may exist; nanoseconds since boot */
	__u32 generation;     /* of the pod that has the slot */
	__u32 refused_share;  /* packets whose flow was not recorded: the pod had its share */
	__u32 refused_full;   /* the same, as the table had no room */
	__u32 padding;
	__u8 noted[PEERS_NOTED];
};

_Static_assert(sizeof(struct flow_owner) == 24 + PEERS_NOTED, "no hole");

/* Value of `flow_counts`, keyed by slot * FLOW_EPOCHS + epoch: how much of its share a pod has. */
struct flow_count {
	__u32 added; /* by programs */
};

/* Value of `flow_kept`, keyed alike: what the agent carried over from the epoch before. */
struct flow_kept {
	__u32 kept;
};

#endif
