/* SPDX-License-Identifier: GPL-2.0 */
/*
 * This file holds what the programs on the way out note of what the stack sends, and has perhaps translated: for the
 * pods that are its ends, so that the other programs leave both directions of its flow to the stack.
 */
#ifndef TERWAY_LIB_STACK_NOTES_H
#define TERWAY_LIB_STACK_NOTES_H

#include "lib/act.h"

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04

static __always_inline __u32 tcp_kind(struct __sk_buff *skb, const struct packet *packet,
				      __u32 before)
{
	__u8 flags;

	if (bpf_skb_load_bytes(skb, packet->transport + 13, &flags, 1))
		return FLOW_TCP_OPEN;
	if (flags & (TCP_SYN | TCP_RST))
		return FLOW_TCP_BRIEF;
	if (flags & TCP_FIN || before == FLOW_TCP_CLOSING)
		return FLOW_TCP_CLOSING;
	return FLOW_TCP_OPEN;
}

static __always_inline __u32 kind_of(struct __sk_buff *skb, const struct packet *packet,
				     __u32 before)
{
	switch (packet->flow.protocol) {
	case IPPROTO_TCP:
		return tcp_kind(skb, packet, before);
	case IPPROTO_UDP:
		return FLOW_UDP;
	case IPPROTO_SCTP:
		return FLOW_SCTP;
	default:
		return FLOW_OTHER;
	}
}

/*
 * on record in this epoch		SEEN_KNOWN, renewed
 * in the one before		SEEN_KNOWN, renewed, and recorded in this one if there is room
 * else				recorded: see flow_insert()
 *
 * `from` and `to` are the slots of the ends. Whoever sends first is charged, or else who receives.
 */
static __noinline enum reason flow_record(struct __sk_buff *skb, const struct packet *packet,
					  __u32 from, __u32 to)
{
	struct settings *settings = settings_get();
	struct flow_entry entry = {};
	__u64 now = bpf_ktime_get_ns();
	struct stack_flow *found;
	__u32 kind;

	if (!packet || !settings)
		return SEEN_NOTHING;
	flow_entry_of(&packet->flow, &entry);
	found = flow_find_in(&entry, settings->flow_epoch, settings, now);
	if (!found) {
		found = flow_find_in(&entry, settings->flow_epoch - 1, settings, now);
		kind = kind_of(skb, packet, found ? found->flow_kind : FLOW_KINDS);
		if (!found)
			return flow_insert(&entry, from ? from : to, kind, settings, now);
		if (!flow_share_is_used(from ? from : to, settings->flow_epoch)) {
			struct stack_flow row = *found;

			row.seen = now;
			row.flow_kind = kind;
			row.charged = from ? from : to;
			entry.key.epoch = settings->flow_epoch % FLOW_EPOCHS;
			bpf_map_update_elem(&flows, &entry.key, &row, BPF_ANY);
		}
	} else {
		kind = kind_of(skb, packet, found->flow_kind);
	}
	flow_seen(found, now);
	if (found->flow_kind != kind)
		found->flow_kind = kind;
	return SEEN_KNOWN;
}

/*
 * of no pod of this node				SEEN_NOTHING
 * conntrack is asked about such flows			SEEN_NEW for the first of a pod and its peer
 * from a Service or the node, which pods never answer	the same
 *	but by the stack (see prefix_decide())
 * else							see flow_record()
 */
static __always_inline enum reason note_decide(struct __sk_buff *skb, const struct packet *packet,
					       const struct settings *settings)
{
	const struct flow *flow = &packet->flow;
	struct owner from = owner_of(&flow->source), to = owner_of(&flow->destination);
	bool fresh;

	if (!from.slot && !to.slot)
		return SEEN_NOTHING;
	/* The pair first: whoever finds it clear is not to miss the flow. */
	fresh = peer_note(from.slot, peer_of(&flow->destination, &to));
	fresh |= peer_note(to.slot, peer_of(&flow->source, &from));
	if (settings->flags & SETTING_CONNTRACK &&
	    (flow->protocol == IPPROTO_TCP || flow->protocol == IPPROTO_UDP))
		return fresh ? SEEN_NEW : SEEN_KNOWN;
	if (!from.slot) {
		enum stack_kind kind = stack_kind_of(&flow->source);

		if (kind == KIND_SERVICE || kind == KIND_NODE)
			return fresh ? SEEN_NEW : SEEN_KNOWN;
	}
	return flow_record(skb, packet, from.slot, to.slot);
}

/* Whether there is anything to note: `reason` says it otherwise, and is GO_ON if so. */
static __always_inline enum reason out_parse(struct __sk_buff *skb, struct packet *packet, int *fault)
{
	struct ethhdr *eth;
	__be16 type;

	if (is_stamped_fast(skb))
		return SEEN_FAST;
	eth = frame_header(skb);
	if (!eth)
		return SEEN_NOTHING;
	type = eth->h_proto;
	if (frame_decide(skb, type) != GO_ON)
		return SEEN_NOTHING;
	*fault = frame_parse(skb, type, packet);
	if (*fault == PACKET_MALFORMED || packet_is_link_talk(packet) ||
	    address_stays_on_link(&packet->flow.destination))
		return SEEN_NOTHING;
	return GO_ON;
}

/*
 * nothing that has an answer to be told by		SEEN_NOTHING
 *	(later fragments, ICMP errors, extension headers, ports cut)
 * else							see note_decide()
 */
static __always_inline enum reason out_decide(struct __sk_buff *skb, const struct packet *packet,
					      int fault)
{
	struct settings *settings = settings_get();

	if (fault || packet->part == PART_LATER ||
	    icmp_is_error(packet->flow.protocol, packet->icmp_type))
		return SEEN_NOTHING;
	return settings ? note_decide(skb, packet, settings) : SEEN_NOTHING;
}

#endif
