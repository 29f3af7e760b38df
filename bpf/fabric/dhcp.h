/* SPDX-License-Identifier: GPL-2.0 */
/*
 * This file holds DHCP (RFC 2131, 2132): the VPC answers a client with the ENI's primary address.
 *
 * The router is the third last address of the vSwitch (VPC documentation), the name servers 100.100.2.136 and
 * 100.100.2.138 (VPC documentation, "DHCP options sets"). That the server's identifier is the router's address
 * and that a lease lasts ten years is inferred from what images of ECS keep of theirs; no page says so. ECS
 * answers DHCPv6 too, the lab does not: a client's message ends here and is no fault.
 */
#ifndef TERWAY_FABRIC_DHCP_H
#define TERWAY_FABRIC_DHCP_H

#include "fabric/claims.h"
#include "lib/checksum.h"

#define DHCP_SERVER	   67
#define DHCP_CLIENT	   68
#define DHCP6_CLIENT	   546
#define DHCP6_SERVER	   547
#define DHCP_MAGIC	   0x63825363
#define DHCP_BROADCAST	   0x8000
#define DHCP_OPTIONS_MAX   64
#define DHCP_LEASE_SECONDS 315360000
#define NAME_SERVER_1	   0x64640288
#define NAME_SERVER_2	   0x6464028a

#define BOOTP_REPLY 2

/* Of DHCPv6, what only a server says. */
enum dhcp6_type {
	DHCP6_ADVERTISE = 2,
	DHCP6_REPLY = 7,
	DHCP6_RECONFIGURE = 10,
};

enum dhcp_option {
	OPTION_PAD = 0,
	OPTION_MASK = 1,
	OPTION_ROUTER = 3,
	OPTION_NAME_SERVERS = 6,
	OPTION_ADDRESS = 50,
	OPTION_LEASE = 51,
	OPTION_TYPE = 53,
	OPTION_SERVER = 54,
	OPTION_END = 255,
};

enum dhcp_type {
	DHCP_DISCOVER = 1,
	DHCP_OFFER = 2,
	DHCP_REQUEST = 3,
	DHCP_ACK = 5,
	DHCP_NAK = 6,
};

struct bootp {
	__u8 operation, hardware, hardware_length, hops;
	__be32 transaction;
	__be16 seconds, flags;
	__be32 client, yours, server, relay;
	__u8 mac[16];
	__u8 names[192];
	__be32 magic;
} __attribute__((packed));

_Static_assert(sizeof(struct bootp) == 240, "as in RFC 2131, with the cookie");

struct dhcp_address {
	__u8 option, length;
	__be32 value;
} __attribute__((packed));

/* The whole answer behind the Ethernet header, as long as BOOTP wants it at least. */
struct dhcp_answer {
	struct iphdr ip;
	struct udphdr udp;
	struct bootp bootp;
	__u8 type[3];
	struct dhcp_address server, lease, mask, router;
	__u8 name_servers[2];
	__be32 name_server[2];
	__u8 end;
	__u8 padding[22];
} __attribute__((packed));

_Static_assert(sizeof(struct dhcp_answer) == 28 + 300, "BOOTP's least, and words for the checksum");

/* An answer while it is written; programs of tc do not interrupt each other on a CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dhcp_answer);
} answers SEC(".maps");

/* What a client wants. */
struct dhcp_question {
	__u8 type;
	__be32 address;
};

static __noinline int dhcp_read(struct __sk_buff *skb, const struct packet *packet,
				struct dhcp_question *question)
{
	__u32 at = packet->transport + sizeof(struct udphdr) + sizeof(struct bootp);
	struct {
		__u8 option, length;
	} head;

	for (int i = 0; i < DHCP_OPTIONS_MAX; i++) {
		if (at + sizeof(head) > packet->end ||
		    bpf_skb_load_bytes(skb, at, &head, sizeof(head)) || head.option == OPTION_END)
			break;
		if (head.option == OPTION_PAD) {
			at++;
			continue;
		}
		at += sizeof(head);
		if (at + head.length > packet->end)
			break;
		if (head.option == OPTION_TYPE && head.length == 1)
			bpf_skb_load_bytes(skb, at, &question->type, 1);
		if (head.option == OPTION_ADDRESS && head.length == 4)
			bpf_skb_load_bytes(skb, at, &question->address, 4);
		at += head.length;
	}
	return question->type;
}

/*
 * to a client's port				plays the server
 * by another's MAC			dropped
 * DISCOVER, REQUEST			answered, if the ENI has a primary address
 * other messages of a client		control
 */
static __noinline enum fabric_reason dhcp_decide(struct __sk_buff *skb, const struct packet *packet,
						 const struct port *port)
{
	struct dhcp_question question = {};
	struct bootp bootp;
	__u32 id = port->id;

	if (packet->flow.destination_port == bpf_htons(DHCP_CLIENT))
		return DROP_CLAIM_DHCP;
	if (packet->part != PART_WHOLE ||
	    !packet_holds(packet, sizeof(struct udphdr) + sizeof(bootp)) ||
	    bpf_skb_load_bytes(skb, packet->transport + sizeof(struct udphdr), &bootp, 44))
		return DROP_MALFORMED;
	if (bootp.operation != 1 || bootp.hardware != 1 || bootp.hardware_length != ETH_ALEN)
		return DROP_MALFORMED;
	if (!mac_equal(bootp.mac, port->mac))
		return DROP_SRC_MAC;
	if (packet->flow.source.word[3] && !address_is_own(port, &packet->flow.source))
		return DROP_SRC_ADDR;
	dhcp_read(skb, packet, &question);
	if (question.type != DHCP_DISCOVER && question.type != DHCP_REQUEST)
		return PASS_CONTROL;
	return bpf_map_lookup_elem(&leases, &id) ? PASS_ANSWERED_DHCP : PASS_CONTROL;
}

/* DHCPv6 (RFC 8415) */
static __always_inline enum fabric_reason dhcp6_decide(const struct packet *packet,
						       const struct port *port)
{
	if (packet->flow.destination_port == bpf_htons(DHCP6_CLIENT))
		return DROP_CLAIM_DHCP;
	return claim_decide(port, &packet->flow.source);
}

/* Whether a message to a client's port is one that only a server says. A fragment that hides it is. */
static __noinline bool server_speaks(struct __sk_buff *skb, const struct packet *packet)
{
	__u8 type;

	if (!packet_holds(packet, sizeof(struct udphdr) + sizeof(type)) ||
	    bpf_skb_load_bytes(skb, packet->transport + sizeof(struct udphdr), &type, sizeof(type)))
		return packet->part == PART_FIRST;
	if (packet->v4)
		return type == BOOTP_REPLY;
	return type == DHCP6_ADVERTISE || type == DHCP6_REPLY || type == DHCP6_RECONFIGURE;
}

/*
 * Whether an ENI speaks DHCP, as a client or as a server. A client hears by its own port alone (RFC 2131, 4.1; RFC
 * 8415, 7.2), so a false server may speak from any.
 */
static __always_inline bool packet_is_dhcp(struct __sk_buff *skb, const struct packet *packet,
					   __u16 client, __u16 server)
{
	const struct flow *flow = &packet->flow;

	if (flow->protocol != IPPROTO_UDP || packet->part == PART_LATER)
		return false;
	if (flow->destination_port == bpf_htons(server))
		return flow->source_port == bpf_htons(client);
	return flow->destination_port == bpf_htons(client) &&
	       (flow->source_port == bpf_htons(server) || server_speaks(skb, packet));
}

static __always_inline void dhcp_address_set(struct dhcp_address *field, __u8 option, __be32 value)
{
	field->option = option;
	field->length = sizeof(value);
	field->value = value;
}

static __always_inline void dhcp_grant(struct dhcp_answer *answer, const struct lease *lease)
{
	answer->bootp.yours = lease->address;
	dhcp_address_set(&answer->lease, OPTION_LEASE, bpf_htonl(DHCP_LEASE_SECONDS));
	dhcp_address_set(&answer->mask, OPTION_MASK, lease->mask);
	dhcp_address_set(&answer->router, OPTION_ROUTER, lease->gateway);
	answer->name_servers[0] = OPTION_NAME_SERVERS;
	answer->name_servers[1] = sizeof(answer->name_server);
	answer->name_server[0] = bpf_htonl(NAME_SERVER_1);
	answer->name_server[1] = bpf_htonl(NAME_SERVER_2);
	answer->end = OPTION_END;
}

static __always_inline void dhcp_address_ip(struct dhcp_answer *answer, __be32 source,
					    __be32 destination)
{
	answer->ip.version = 4;
	answer->ip.ihl = 5;
	answer->ip.tot_len = bpf_htons(sizeof(*answer));
	answer->ip.ttl = 64;
	answer->ip.protocol = IPPROTO_UDP;
	answer->ip.saddr = source;
	answer->ip.daddr = destination;
	answer->ip.check = checksum_fold(checksum_add(0, &answer->ip, sizeof(answer->ip)));
	answer->udp.source = bpf_htons(DHCP_SERVER);
	answer->udp.dest = bpf_htons(DHCP_CLIENT);
	answer->udp.len = bpf_htons(sizeof(*answer) - sizeof(answer->ip));
}

/* A REQUEST for another address than the ENI's gets a NAK. The answer's UDP has no checksum, as IPv4 allows. */
static __noinline int dhcp_answer(struct __sk_buff *skb, __u32 port_id)
{
	struct packet packet = {};
	struct dhcp_question question = {};
	struct lease *lease = bpf_map_lookup_elem(&leases, &port_id);
	struct dhcp_answer *answer;
	__be32 destination;
	__u32 zero = 0;
	bool good;

	answer = bpf_map_lookup_elem(&answers, &zero);
	if (!lease || !answer || packet_parse(skb, ETH_HLEN, true, &packet))
		return -1;
	__builtin_memset(answer, 0, sizeof(*answer));
	if (bpf_skb_load_bytes(skb, packet.transport + sizeof(struct udphdr), &answer->bootp, 44))
		return -1;
	dhcp_read(skb, &packet, &question);
	if (!question.address)
		question.address = answer->bootp.client;
	good = question.type == DHCP_DISCOVER || question.address == lease->address;
	destination = answer->bootp.client;
	if (!destination || !good)
		destination = good && !(answer->bootp.flags & bpf_htons(DHCP_BROADCAST)) ?
				      lease->address :
				      bpf_htonl(0xffffffff);
	answer->bootp.operation = 2;
	answer->bootp.seconds = 0;
	answer->bootp.magic = bpf_htonl(DHCP_MAGIC);
	answer->bootp.server = lease->gateway;
	answer->type[0] = OPTION_TYPE;
	answer->type[1] = 1;
	answer->type[2] = !good				  ? DHCP_NAK :
			  question.type == DHCP_DISCOVER ? DHCP_OFFER :
							   DHCP_ACK;
	dhcp_address_set(&answer->server, OPTION_SERVER, lease->gateway);
	if (good)
		dhcp_grant(answer, lease);
	else
		answer->lease.option = OPTION_END;
	dhcp_address_ip(answer, lease->gateway, destination);
	if (bpf_skb_change_tail(skb, ETH_HLEN + sizeof(*answer), 0))
		return -1;
	return bpf_skb_store_bytes(skb, ETH_HLEN, answer, sizeof(*answer), 0);
}

#endif
