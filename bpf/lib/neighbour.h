/* SPDX-License-Identifier: GPL-2.0 */
/*
 * This file holds the messages of ARP (RFC 826, 5227) and neighbour discovery (RFC 4861), and how a question in
 * the skb becomes its answer: from the IP header on, as the Ethernet header is the caller's.
 */
#ifndef TERWAY_LIB_NEIGHBOUR_H
#define TERWAY_LIB_NEIGHBOUR_H

#include "lib/checksum.h"
#include "lib/packet.h"

#define ARPHRD_ETHER  1
#define ARPOP_REQUEST 1
#define ARPOP_REPLY   2
#define ND_AT	      (ETH_HLEN + sizeof(struct ipv6hdr))

#define ND_FLAGS_ANSWER 0xe0000000 /* router, solicited, override */
#define ND_SOURCE_MAC	1	   /* option: source link-layer address */
#define ND_TARGET_MAC	2	   /* option: target link-layer address */

struct arp_packet {
	__be16 hardware, protocol;
	__u8 hardware_length, protocol_length;
	__be16 operation;
	__u8 sender_mac[6];
	__be32 sender;
	__u8 target_mac[6];
	__be32 target;
} __attribute__((packed));

_Static_assert(sizeof(struct arp_packet) == 28, "as in RFC 826 for Ethernet and IPv4");

struct nd_message {
	__u8 type, code;
	__be16 checksum;
	__be32 flags;
	struct address target;
	__u8 option, option_length;
	__u8 mac[6];
};

_Static_assert(sizeof(struct nd_message) == 32, "one link-layer option");

static __noinline int arp_answer(struct __sk_buff *skb, const __u8 *mac)
{
	struct arp_packet arp;
	__be32 asked;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &arp, sizeof(arp)))
		return -1;
	asked = arp.target;
	arp.operation = bpf_htons(ARPOP_REPLY);
	arp.target = arp.sender;
	__builtin_memcpy(arp.target_mac, arp.sender_mac, ETH_ALEN);
	arp.sender = asked;
	__builtin_memcpy(arp.sender_mac, mac, ETH_ALEN);
	return bpf_skb_store_bytes(skb, ETH_HLEN, &arp, sizeof(arp), 0);
}

static __noinline int nd_answer(struct __sk_buff *skb, const __u8 *mac)
{
	struct ipv6hdr ip;
	struct nd_message message;
	__be32 pseudo[2] = {bpf_htonl(sizeof(message)), bpf_htonl(PROTOCOL_ICMPV6)};
	__u32 sum;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) ||
	    bpf_skb_load_bytes(skb, ND_AT, &message, sizeof(message) - 8))
		return -1;
	message.type = ND_ADVERT;
	message.code = 0;
	message.checksum = 0;
	message.flags = bpf_htonl(ND_FLAGS_ANSWER);
	message.option = ND_TARGET_MAC;
	message.option_length = 1;
	__builtin_memcpy(message.mac, mac, ETH_ALEN);
	ip.daddr = ip.saddr;
	__builtin_memcpy(&ip.saddr, &message.target, sizeof(ip.saddr));
	ip.payload_len = bpf_htons(sizeof(message));
	ip.hop_limit = 255;
	sum = checksum_add(0, &ip.saddr, 2 * sizeof(ip.saddr));
	sum = checksum_add(sum, pseudo, sizeof(pseudo));
	sum = checksum_add(sum, &message, sizeof(message));
	message.checksum = checksum_fold(sum);
	if (bpf_skb_change_tail(skb, ND_AT + sizeof(message), 0))
		return -1;
	if (bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip), 0))
		return -1;
	return bpf_skb_store_bytes(skb, ND_AT, &message, sizeof(message), 0);
}

#endif
