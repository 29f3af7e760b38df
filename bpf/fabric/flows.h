/* SPDX-License-Identifier: GPL-2.0 */
/*
 * This file holds the memory that makes security groups stateful: flows that were allowed, datagrams whose
 * first fragment was seen, and the verdict on a packet that both give together with groups.h.
 */
#ifndef TERWAY_FABRIC_FLOWS_H
#define TERWAY_FABRIC_FLOWS_H

#include "fabric/groups.h"

#define SECOND	      1000000000ull
#define FLOW_IDLE     (910 * SECOND) /* as long as ECS keeps an idle session */
#define DATAGRAM_IDLE (30 * SECOND)  /* as long as Linux keeps a fragment */

static __always_inline void flow_reverse(const struct flow *flow, struct flow *reversed)
{
	__builtin_memset(reversed, 0, sizeof(*reversed));
	reversed->source = flow->destination;
	reversed->destination = flow->source;
	reversed->source_port = flow->destination_port;
	reversed->destination_port = flow->source_port;
	reversed->protocol = flow->protocol;
}

static __always_inline bool flow_is_fresh(const struct flow_state *state, __u64 now)
{
	return state && now - state->seen < FLOW_IDLE;
}

static __always_inline void flow_remember(const struct flow *flow, __u32 epoch, __u64 now)
{
	struct flow_state state = {.seen = now, .epoch = epoch};

	bpf_map_update_elem(&flows, flow, &state, BPF_ANY);
}

static __always_inline void datagram_key(const struct packet *packet, struct datagram *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->source = packet->flow.source;
	key->destination = packet->flow.destination;
	key->identification = packet->identification;
	if (address_is_v4(&packet->flow.source))
		key->protocol = packet->flow.protocol;
}

static __noinline enum fabric_reason datagram_recall(const struct packet *packet)
{
	struct datagram_state *state;
	struct datagram key;

	datagram_key(packet, &key);
	state = bpf_map_lookup_elem(&datagrams, &key);
	if (!state || bpf_ktime_get_ns() - state->seen > DATAGRAM_IDLE)
		return DROP_FRAGMENT;
	return state->accepted ? PASS_FORWARDED : DROP_GROUP;
}

static __noinline int datagram_remember(const struct packet *packet, bool accepted)
{
	struct datagram_state state = {.seen = bpf_ktime_get_ns(), .accepted = accepted};
	struct datagram key;

	datagram_key(packet, &key);
	return bpf_map_update_elem(&datagrams, &key, &state, BPF_ANY);
}

/*
 * Whether an ICMP error quotes a packet that its addressee sent and that was allowed. The error comes from
 * the far end or from any router on the way, so only the quote is asked.
 */
static __noinline bool quote_is_of_allowed(struct __sk_buff *skb, const struct packet *packet)
{
	struct packet quote = {.quoted = 1, .end = packet->end};
	bool v4 = address_is_v4(&packet->flow.source);
	struct flow reversed;
	__u64 now;

	if (packet_parse(skb, packet->transport + 8, v4, &quote) != PACKET_FINE)
		return false;
	if (!address_equal(&quote.flow.source, &packet->flow.destination))
		return false;
	if (quote.part == PART_LATER)
		return datagram_recall(&quote) == PASS_FORWARDED;
	now = bpf_ktime_get_ns();
	if (flow_is_fresh(bpf_map_lookup_elem(&flows, &quote.flow), now))
		return true;
	flow_reverse(&quote.flow, &reversed);
	return flow_is_fresh(bpf_map_lookup_elem(&flows, &reversed), now);
}

/*
 * a flow that is known, in its own direction or as the reply	accepted
 * an ICMP error about one						accepted
 * a new one			if the groups of both ends accept it	accepted, and known from now on
 *
 * What was allowed before a change of rules or addresses is judged again, once, as it began: a flow that
 * both allow does not notice, of another this packet is dropped and the next counts as new.
 */
static __noinline bool flow_accepted(struct __sk_buff *skb, const struct packet *packet,
				     const struct port *source, const struct port *destination,
				     __u32 epoch)
{
	const struct port *first = source, *second = destination;
	struct flow began = packet->flow, reversed;
	__u64 now = bpf_ktime_get_ns();
	struct flow_state *state = bpf_map_lookup_elem(&flows, &began);

	if (!flow_is_fresh(state, now)) {
		flow_reverse(&packet->flow, &reversed);
		state = bpf_map_lookup_elem(&flows, &reversed);
		if (flow_is_fresh(state, now)) {
			began = reversed;
			first = destination;
			second = source;
		} else {
			state = (void *)0;
		}
	}
	if (state && state->epoch == epoch) {
		if (now - state->seen > SECOND) /* spare the cache line */
			state->seen = now;
		return true;
	}
	if (!state && icmp_is_error(packet->flow.protocol, packet->icmp_type) &&
	    quote_is_of_allowed(skb, packet))
		return true;
	if (groups_accept(&began, first, second)) {
		flow_remember(&began, epoch, now);
		return true;
	}
	if (state)
		bpf_map_delete_elem(&flows, &began);
	return false;
}

/* The groups' word on a packet, PASS_FORWARDED or a DROP_. */
static __always_inline enum fabric_reason flow_decide(struct __sk_buff *skb,
						      const struct packet *packet,
						      const struct port *source,
						      const struct port *destination, __u32 epoch)
{
	bool accepted;

	if (source->kind == PORT_SERVICE || destination->kind == PORT_SERVICE)
		return PASS_FORWARDED;
	if (packet->part == PART_LATER)
		return datagram_recall(packet);
	accepted = flow_accepted(skb, packet, source, destination, epoch);
	if (packet->part == PART_FIRST)
		datagram_remember(packet, accepted);
	return accepted ? PASS_FORWARDED : DROP_GROUP;
}

#endif
