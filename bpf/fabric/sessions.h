/* SPDX-License-Identifier: GPL-2.0 */
/*
 * This file holds the sessions of an instance. Each end of a flow keeps its own, as each host of a cloud does
 * for its instances: what one instance does fills no table but its own and those of whom it speaks to, and
 * pushes nothing out of any.
 *
 * How long an idle one is kept is documented (ECS API reference, ConnectionTrackingConfiguration, defaults):
 * TCP 910 seconds, TCP that has ended 3, UDP 30. Of TCP that was not answered yet, of ICMP and of the others no
 * page tells: 30, as UDP. A new session beyond the limit of the instance is refused (ECS user guide, "Connection
 * timeout management"); what no page says is inferred: that those which are there go on.
 */
#ifndef TERWAY_FABRIC_SESSIONS_H
#define TERWAY_FABRIC_SESSIONS_H

#include "fabric/maps.h"
#include "lib/packet.h"

#define SECOND		 1000000000ull
#define IDLE_TCP	 910
#define IDLE_TCP_ENDED	 3
#define IDLE_OTHER	 30
#define TCP_FLAGS_AT	 13
#define TCP_FIN		 0x01
#define TCP_SYN		 0x02
#define TCP_RST		 0x04
#define TCP_ACK		 0x10
#define ENDED_BOTH	 3
#define SWEEP_AT_MOST	 SECOND
#define MAP_IS_FULL	 -7 /* E2BIG */

static __always_inline void flow_reverse(const struct flow *flow, struct flow *reversed)
{
	__builtin_memset(reversed, 0, sizeof(*reversed));
	reversed->source = flow->destination;
	reversed->destination = flow->source;
	reversed->source_port = flow->destination_port;
	reversed->destination_port = flow->source_port;
	reversed->protocol = flow->protocol;
}

static __always_inline bool session_is_over(const struct flow_state *state, __u64 now)
{
	return now - state->seen >= state->idle * SECOND;
}

/* The flags of a packet's TCP header, 0 for other protocols. */
static __always_inline __u8 tcp_flags(struct __sk_buff *skb, const struct packet *packet)
{
	__u8 flags = 0;

	if (packet->flow.protocol == IPPROTO_TCP)
		bpf_skb_load_bytes(skb, packet->transport + TCP_FLAGS_AT, &flags, sizeof(flags));
	return flags;
}

static __always_inline bool tcp_opens(__u8 flags)
{
	return (flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

/*
 * Whether a packet of no session may begin one. A segment without SYN, an answer that nobody asked for and an
 * ICMP message that asks nothing may not: the groups judge each by itself, in its own direction. What ECS does
 * with a segment of a session that is over is on no page.
 */
static __always_inline bool packet_opens(const struct packet *packet, __u8 flags)
{
	__u8 protocol = packet->flow.protocol;

	if (protocol == IPPROTO_TCP)
		return tcp_opens(flags);
	if (protocol == IPPROTO_ICMP || protocol == PROTOCOL_ICMPV6)
		return icmp_is_request(protocol, packet->icmp_type);
	return true;
}

/* What a packet of a session's tells of its end. `forward`: it goes as the first one did. */
static __always_inline void session_follow(struct flow_state *state, __u8 flags, bool forward,
					   __u64 now)
{
	if (now - state->seen > SECOND / 2) /* spare the cache line */
		state->seen = now;
	if (!flags)
		return;
	if (!forward && !state->fins)
		state->idle = IDLE_TCP;
	if (flags & TCP_FIN)
		state->fins |= forward ? 1 : 2;
	if (flags & TCP_RST || state->fins == ENDED_BOTH)
		state->idle = IDLE_TCP_ENDED;
}

static long session_sweep(void *table, const void *key, struct flow_state *state, __u64 *now)
{
	if (session_is_over(state, *now))
		bpf_map_delete_elem(table, key);
	return 0;
}

/* Whether it is time again to go through a port's sessions. */
static __always_inline bool sweep_is_due(__u32 port_id, __u64 now)
{
	__u64 *last = bpf_map_lookup_elem(&swept, &port_id);

	if (last && now - *last < SWEEP_AT_MOST)
		return false;
	return !bpf_map_update_elem(&swept, &port_id, &now, BPF_ANY);
}

/*
 * PASS_FORWARDED, DROP_SESSIONS if the instance has as many as it may have, DROP_KERNEL if there is no memory.
 * Those that are over make room.
 */
static __noinline enum fabric_reason session_begin(const struct flow *flow, __u32 port_id,
						   __u32 epoch)
{
	void *table = bpf_map_lookup_elem(&sessions, &port_id);
	__u64 now = bpf_ktime_get_ns();
	struct flow_state state = {.seen = now, .epoch = epoch, .idle = IDLE_OTHER};
	long error;

	if (!table)
		return PASS_FORWARDED;
	error = bpf_map_update_elem(table, flow, &state, BPF_ANY);
	if (error == MAP_IS_FULL && sweep_is_due(port_id, now)) {
		bpf_for_each_map_elem(table, session_sweep, &now, 0);
		error = bpf_map_update_elem(table, flow, &state, BPF_ANY);
	}
	if (!error)
		return PASS_FORWARDED;
	return error == MAP_IS_FULL ? DROP_SESSIONS : DROP_KERNEL;
}

static __always_inline void session_end(const struct flow *flow, __u32 port_id)
{
	void *table = bpf_map_lookup_elem(&sessions, &port_id);

	if (table)
		bpf_map_delete_elem(table, flow);
}

/* The session that `flow` is a direction of, in the port's instance; `began` becomes its first direction. */
static __always_inline struct flow_state *session_find(const struct flow *flow, __u32 port_id,
							struct flow *began)
{
	void *table = bpf_map_lookup_elem(&sessions, &port_id);
	struct flow_state *state;
	__u64 now = bpf_ktime_get_ns();

	if (!table)
		return (void *)0;
	*began = *flow;
	state = bpf_map_lookup_elem(table, began);
	if (state && !session_is_over(state, now))
		return state;
	flow_reverse(flow, began);
	state = bpf_map_lookup_elem(table, began);
	return state && !session_is_over(state, now) ? state : (void *)0;
}

#endif
