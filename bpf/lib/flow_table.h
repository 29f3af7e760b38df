/* SPDX-License-Identifier: GPL-2.0 */
/*
 * This file holds the table of flows that somebody carries for a pod: one look-up whichever end has sent, a
 * share for each pod, and no row that makes room for another's.
 *
 * A row is void once one of its ends belongs to another pod, or to none: it holds both owners as they were, and
 * a slot's generation goes up with each pod that gets it. It is void as well when it has been idle for longer
 * than conntrack remembers a flow of its kind.
 *
 * Nobody deletes a row that a program may be about to renew. Rows are kept in epochs, which the agent counts:
 * programs write those of the present one and look at the one before as well; the agent copies what is still
 * alive from there, begins the next epoch, and deletes the rows of the epoch that nobody looks at any more.
 * If no agent runs, the epoch goes on, pods use up their shares, and then the stack carries more than it has to.
 */
#ifndef TERWAY_LIB_FLOW_TABLE_H
#define TERWAY_LIB_FLOW_TABLE_H

#include "lib/tables.h"

#define SECOND 1000000000ull

/* A flow in the words of the table. */
struct flow_entry {
	struct flow_key key;
	struct owner low, high;
	__u32 flags; /* of both endpoints */
};

static __always_inline struct owner endpoint_owner(const struct endpoint *endpoint)
{
	struct owner owner = {};

	if (endpoint) {
		owner.slot = endpoint->slot;
		owner.generation = endpoint->generation;
	}
	return owner;
}

static __always_inline struct owner owner_of(const struct address *address)
{
	return endpoint_owner(bpf_map_lookup_elem(&endpoints, address));
}

static __always_inline bool owner_equal(const struct owner *a, const struct owner *b)
{
	return a->slot == b->slot && a->generation == b->generation;
}

/* Any order will do, as long as it is always the same: words are compared as they lie. */
static __always_inline bool source_is_low(const struct flow *flow)
{
	const struct address *a = &flow->source, *b = &flow->destination;

	if (a->word[0] != b->word[0])
		return a->word[0] < b->word[0];
	if (a->word[1] != b->word[1])
		return a->word[1] < b->word[1];
	if (a->word[2] != b->word[2])
		return a->word[2] < b->word[2];
	if (a->word[3] != b->word[3])
		return a->word[3] < b->word[3];
	return flow->source_port <= flow->destination_port;
}

/* `entry` is zeroed. */
static __always_inline void flow_entry_of(const struct flow *flow, struct flow_entry *entry)
{
	bool forward = source_is_low(flow);
	struct endpoint *low, *high;

	entry->key.low = forward ? flow->source : flow->destination;
	entry->key.high = forward ? flow->destination : flow->source;
	entry->key.low_port = forward ? flow->source_port : flow->destination_port;
	entry->key.high_port = forward ? flow->destination_port : flow->source_port;
	entry->key.protocol = flow->protocol;
	low = bpf_map_lookup_elem(&endpoints, &entry->key.low);
	high = bpf_map_lookup_elem(&endpoints, &entry->key.high);
	entry->low = endpoint_owner(low);
	entry->high = endpoint_owner(high);
	entry->flags = (low ? low->flags : 0) | (high ? high->flags : 0);
}

static __always_inline __u64 flow_timeout(const struct settings *settings, __u32 kind)
{
	return kind < FLOW_KINDS ? settings->flow_timeouts[kind] * SECOND : 0;
}

/* The row of `epoch`, null if there is none that holds. */
static __always_inline struct stack_flow *flow_find_in(struct flow_entry *entry, __u32 epoch,
						       const struct settings *settings, __u64 now)
{
	struct stack_flow *found;
	__u64 timeout;

	entry->key.epoch = epoch % FLOW_EPOCHS;
	found = bpf_map_lookup_elem(&flows, &entry->key);
	if (!found || !owner_equal(&found->low, &entry->low) ||
	    !owner_equal(&found->high, &entry->high))
		return (void *)0;
	timeout = flow_timeout(settings, found->flow_kind);
	/* Another CPU may be ahead of `now`. */
	if (timeout && (__s64)(now - found->seen) > (__s64)timeout)
		return (void *)0;
	return found;
}

/* To the second, so that a flow does not send its row from CPU to CPU with each packet. */
static __always_inline void flow_seen(struct stack_flow *flow, __u64 now)
{
	if ((__s64)(now - flow->seen) > (__s64)SECOND)
		flow->seen = now;
}

/* Whether the flow has a row that holds; it is renewed. */
static __always_inline bool flow_is_kept(struct flow_entry *entry, const struct settings *settings,
					 __u64 now)
{
	struct stack_flow *found = flow_find_in(entry, settings->flow_epoch, settings, now);

	if (!found)
		found = flow_find_in(entry, settings->flow_epoch - 1, settings, now);
	if (!found)
		return false;
	flow_seen(found, now);
	return true;
}

/* Whether `slot` has used up its share of the present epoch; else one more is counted. */
static __always_inline bool flow_share_is_used(__u32 slot, __u32 epoch)
{
	__u32 key = slot * FLOW_EPOCHS + epoch % FLOW_EPOCHS;
	struct flow_count *count = bpf_map_lookup_elem(&flow_counts, &key);
	struct flow_kept *kept = bpf_map_lookup_elem(&flow_kept, &key);

	if (!count || !kept || count->added + kept->kept >= FLOWS_PER_POD)
		return true;
	__sync_fetch_and_add(&count->added, 1);
	return false;
}

/*
 * A flow of the pod goes without a row, of which `kind` is what it may become: until conntrack must have forgotten
 * it, the pod's flows with peers of the stack's are all the stack's.
 */
static __always_inline void flow_refuse(__u32 slot, __u64 until, bool share)
{
	struct flow_owner *owner = bpf_map_lookup_elem(&flow_owners, &slot);

	if (!owner)
		return;
	if (owner->blind_until < until)
		owner->blind_until = until;
	__sync_fetch_and_add(share ? &owner->refused_share : &owner->refused_full, 1);
}

/* Of a TCP flow a refused beginning may become a connection, which lives longer. */
static __always_inline __u64 blind_until(const struct settings *settings, __u32 kind, __u64 now)
{
	__u64 timeout = flow_timeout(settings, kind <= FLOW_TCP_CLOSING ? FLOW_TCP_OPEN : kind);

	return timeout ? now + timeout : ~0ull;
}

static __always_inline enum reason flow_insert(struct flow_entry *entry, __u32 charged, __u32 kind,
					       const struct settings *settings, __u64 now)
{
	struct stack_flow row = {
		.seen = now,
		.low = entry->low,
		.high = entry->high,
		.flow_kind = kind,
		.charged = charged,
	};
	bool share = flow_share_is_used(charged, settings->flow_epoch);

	entry->key.epoch = settings->flow_epoch % FLOW_EPOCHS;
	if (!share && !bpf_map_update_elem(&flows, &entry->key, &row, BPF_ANY))
		return SEEN_NEW;
	flow_refuse(charged, blind_until(settings, kind, now), share);
	return SEEN_REFUSED;
}

/* Whether flows of the pod may exist that have no row. */
static __always_inline bool owner_is_blind(__u32 slot, __u64 now)
{
	struct flow_owner *owner = slot ? bpf_map_lookup_elem(&flow_owners, &slot) : (void *)0;

	return owner && owner->blind_until && now < owner->blind_until;
}

/*
 * The hash of a pod's peer, of which addresses in a row have different ones. A pod of this node is known by its
 * slot and generation, so that the next one with its address is another peer.
 */
static __always_inline __u32 peer_of(const struct address *address, const struct owner *owner)
{
	__u64 folded;

	if (owner->slot)
		folded = (__u64)owner->generation << 32 | owner->slot;
	else
		folded = (__u64)(address->word[0] ^ address->word[2]) << 32 |
			 (address->word[1] ^ address->word[3]);
	return (folded * 0x9e3779b97f4a7c15) >> 53; /* 11 bits: PEERS_NOTED */
}

_Static_assert(PEERS_NOTED == 1 << (64 - 53), "as many as peer_of() gives");

/* Slot 0: nobody's. */
static __always_inline struct flow_owner *flow_owner_at(__u32 slot)
{
	return slot ? bpf_map_lookup_elem(&flow_owners, &slot) : (void *)0;
}

static __always_inline bool peer_is_noted(__u32 slot, __u32 peer)
{
	struct flow_owner *owner = bpf_map_lookup_elem(&flow_owners, &slot);

	return !owner || owner->noted[peer % PEERS_NOTED];
}

/* Whether it was not noted before. */
static __always_inline bool peer_note(__u32 slot, __u32 peer)
{
	struct flow_owner *owner = flow_owner_at(slot);

	if (!owner || owner->noted[peer % PEERS_NOTED])
		return false;
	owner->noted[peer % PEERS_NOTED] = 1;
	return true;
}

static __always_inline bool owner_has_noted(const struct owner *owner, __u32 peer)
{
	return !owner->slot || peer_is_noted(owner->slot, peer);
}

/*
 * Whether the flow may be one without a row: an end has such flows, and each has noted the other. Peers of one
 * hash may be taken for each other by one end, which must not send one direction to the stack.
 */
static __always_inline bool flow_may_be_unrecorded(const struct flow_entry *entry, __u64 now)
{
	if (!owner_is_blind(entry->low.slot, now) && !owner_is_blind(entry->high.slot, now))
		return false;
	if (entry->flags & ENDPOINT_EARLIER)
		return true;
	return owner_has_noted(&entry->low, peer_of(&entry->key.high, &entry->high)) &&
	       owner_has_noted(&entry->high, peer_of(&entry->key.low, &entry->low));
}

#endif
