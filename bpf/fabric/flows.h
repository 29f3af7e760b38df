/* SPDX-License-Identifier: GPL-2.0 */
/*
 * This file holds the verdict of security groups on a packet, which sessions.h makes stateful, datagrams whose
 * first fragment was seen, and what an ICMP error quotes.
 */
#ifndef TERWAY_FABRIC_FLOWS_H
#define TERWAY_FABRIC_FLOWS_H

#include "fabric/groups.h"
#include "fabric/sessions.h"

#define DATAGRAM_IDLE (30 * SECOND) /* as long as Linux keeps a fragment */

/* What one end of a flow says about a packet. */
enum end_word {
	END_REFUSES,
	END_KNOWS,   /* of a session that it has */
	END_ACCEPTS, /* by its groups, or because it has none */
};

static __always_inline void datagram_key(const struct packet *packet, struct datagram *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->source = packet->flow.source;
	key->destination = packet->flow.destination;
	key->identification = packet->identification;
	if (address_is_v4(&packet->flow.source))
		key->protocol = packet->flow.protocol;
}

/*
 * A fragment that overlaps the first could write over the header that the groups have judged (RFC 1858, RFC 3128,
 * RFC 5722), so it goes nowhere. `port_id` is the sender's.
 */
static __noinline enum fabric_reason datagram_recall(const struct packet *packet, __u32 port_id)
{
	void *table = bpf_map_lookup_elem(&datagrams, &port_id);
	struct datagram_state *state;
	struct datagram key;

	if (!table)
		return DROP_FRAGMENT;
	datagram_key(packet, &key);
	state = bpf_map_lookup_elem(table, &key);
	if (!state || bpf_ktime_get_ns() - state->seen > DATAGRAM_IDLE)
		return DROP_FRAGMENT;
	if (!packet->quoted && packet->fragment_offset < state->first_end)
		return DROP_FRAGMENT;
	return state->accepted ? PASS_FORWARDED : DROP_GROUP;
}

/* Of two first fragments of one datagram the longer one counts. */
static __noinline int datagram_remember(const struct packet *packet, __u32 port_id, bool accepted)
{
	void *table = bpf_map_lookup_elem(&datagrams, &port_id);
	struct datagram_state state = {.seen = bpf_ktime_get_ns(), .accepted = accepted};
	struct datagram_state *before;
	struct datagram key;

	if (!table)
		return 0;
	datagram_key(packet, &key);
	state.first_end = packet->end - packet->fragment_at;
	before = bpf_map_lookup_elem(table, &key);
	if (before && state.seen - before->seen <= DATAGRAM_IDLE &&
	    before->first_end > state.first_end)
		state.first_end = before->first_end;
	return bpf_map_update_elem(table, &key, &state, BPF_ANY);
}

/*
 * Whether an ICMP error quotes a packet that its addressee sent and that was allowed. The quote ends where the
 * error does, or sooner if the quoted header says so. `destination` becomes where the quoted packet went. A port_id
 * of 0 keeps no sessions: then it is enough that the addressee may have sent it.
 */
static __noinline bool quote_is_of_session(struct __sk_buff *skb, const struct packet *packet,
					   __u32 port_id, struct address *destination)
{
	struct packet quote = {.quoted = 1, .end = packet->end};
	struct flow began;

	if (packet_parse(skb, packet->transport + 8, packet->v4, &quote) != PACKET_FINE)
		return false;
	if (!address_equal(&quote.flow.source, &packet->flow.destination))
		return false;
	*destination = quote.flow.destination;
	if (!port_id)
		return true;
	if (quote.part == PART_LATER)
		return datagram_recall(&quote, port_id) == PASS_FORWARDED;
	return session_find(&quote.flow, port_id, &began) != (void *)0;
}

/*
 * session of this epoch				known
 * session of an earlier one, as it began		judged again, once: known, or refused and over
 * no session, or SYN on one that has ended	the groups' word on this packet
 *
 * Two ENIs of an instance share its sessions, and both have a word on each: the first one's leaves the epoch as it is.
 */
static __noinline enum end_word end_judge(const struct flow *flow, const struct port *end,
					  const struct port *peer, bool sends, __u8 flags)
{
	struct settings *settings = settings_get();
	const struct rule_range *range;
	struct flow_state *state;
	struct flow began;
	bool forward = true, shared = end->instance && end->instance == peer->instance;

	if (end->kind != PORT_ENI || !settings)
		return END_ACCEPTS;
	state = session_find(flow, end->id, &began);
	if (state && state->idle == IDLE_TCP_ENDED && tcp_opens(flags)) {
		session_end(&began, end->id);
		state = (void *)0;
	}
	if (!state)
		began = *flow;
	else
		forward = address_equal(&began.source, &flow->source) &&
			  began.source_port == flow->source_port;
	if (!state || state->epoch != settings->epoch) {
		range = sends == forward ? &end->egress : &end->ingress;
		if (!side_accepts(range, peer, sends ? &flow->destination : &flow->source,
				  &began)) {
			if (state)
				session_end(&began, end->id);
			return END_REFUSES;
		}
	}
	if (!state)
		return END_ACCEPTS;
	if (!sends || !shared)
		state->epoch = settings->epoch;
	session_follow(state, flags, forward, bpf_ktime_get_ns());
	return END_KNOWS;
}

/*
 * Both ends have a word. What both let pass begins a session at each end that has none, if it is a packet that
 * may, and if there is room.
 */
static __noinline enum fabric_reason flow_judge(struct __sk_buff *skb, const struct packet *packet,
						const struct port *source,
						const struct port *destination, __u32 epoch)
{
	enum fabric_reason reason = PASS_FORWARDED;
	__u8 flags = tcp_flags(skb, packet);
	enum end_word here, there;

	here = end_judge(&packet->flow, source, destination, true, flags);
	if (here == END_REFUSES)
		return DROP_GROUP;
	there = end_judge(&packet->flow, destination, source, false, flags);
	if (there == END_REFUSES)
		return DROP_GROUP;
	if (!packet_opens(packet, flags))
		return PASS_FORWARDED;
	if (here == END_ACCEPTS)
		reason = session_begin(&packet->flow, source->id, epoch);
	if (reason != PASS_FORWARDED || there == END_KNOWS)
		return reason;
	reason = session_begin(&packet->flow, destination->id, epoch);
	if (reason != PASS_FORWARDED && here == END_ACCEPTS)
		session_end(&packet->flow, source->id);
	return reason == DROP_SESSIONS ? DROP_PEER_SESSIONS : reason;
}

/* The groups' word on a packet, PASS_FORWARDED or a DROP_. */
static __always_inline enum fabric_reason flow_decide(struct __sk_buff *skb,
						      const struct packet *packet,
						      const struct port *source,
						      const struct port *destination, __u32 epoch)
{
	enum fabric_reason reason;

	if (source->kind == PORT_SERVICE || destination->kind == PORT_SERVICE)
		return PASS_FORWARDED;
	if (packet->part == PART_LATER)
		return datagram_recall(packet, source->id);
	reason = flow_judge(skb, packet, source, destination, epoch);
	if (packet->part == PART_FIRST)
		datagram_remember(packet, source->id, reason == PASS_FORWARDED);
	return reason;
}

#endif
