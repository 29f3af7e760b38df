/* SPDX-License-Identifier: GPL-2.0 */
/*
 * This file holds the way from bytes to a struct packet: IPv4 and IPv6, options, extension headers
 * and fragments. packet_parse() reads by bpf_skb_load_bytes(), so that it works at any offset, on
 * any layout of the skb and for the packet that an ICMP error quotes as well; packet_read() reads
 * what nearly all packets are where it lies.
 */
#ifndef TERWAY_LIB_PACKET_H
#define TERWAY_LIB_PACKET_H

#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "include/flow.h"
#include "lib/address.h"

/* linux/icmp.h and linux/if_arp.h include libc's sockets, which the bpf target has not. */
#define ICMP_ECHOREPLY	      0
#define ICMP_DEST_UNREACH     3
#define ICMP_SOURCE_QUENCH    4
#define ICMP_REDIRECT	      5
#define ICMP_ECHO	      8
#define ICMP_ROUTER_ADVERT    9
#define ICMP_TIME_EXCEEDED    11
#define ICMP_PARAMETERPROB    12
#define ICMP_TIMESTAMP	      13
#define ICMP_TIMESTAMPREPLY   14
#define ICMPV6_DEST_UNREACH   1
#define ICMPV6_PARAMPROB      4
#define ICMPV6_ECHO_REQUEST   128
#define ICMPV6_ECHO_REPLY     129
#define MLD_QUERY	      130
#define MLD_REPORT	      131
#define MLD_DONE	      132
#define ND_ROUTER_SOLICIT     133
#define ND_ROUTER_ADVERT      134
#define ND_SOLICIT	      135
#define ND_ADVERT	      136
#define ND_REDIRECT	      137
#define MLD2_REPORT	      143

#define PROTOCOL_ICMPV6	     58
#define EXTENSION_HOP_BY_HOP 0
#define EXTENSION_ROUTING    43
#define EXTENSION_FRAGMENT   44
#define EXTENSION_OPTIONS    60
#define EXTENSIONS_MAX	     6
#define IPV4_OFFSET	     0x1fff
#define IPV4_MORE	     0x2000
#define IPV6_OFFSET	     0xfff8
#define IPV6_MORE	     0x0001

/* libbpf fills it in at load, and the verifier leaves out what can never be run. */
extern int LINUX_KERNEL_VERSION __kconfig;

enum packet_fault {
	PACKET_FINE = 0,
	PACKET_MALFORMED,
	PACKET_EXTENSION,
	PACKET_TRANSPORT, /* the IP header is fine; the transport header is cut or contradicts it */
};

enum packet_part {
	PART_WHOLE = 0,
	PART_FIRST,
	PART_LATER,
};

struct packet {
	struct flow flow;
	__be32 identification;
	__u32 end;	       /* offset in the frame of the first byte behind the packet; of a quote
				  the caller's, which is where the error ends */
	__u16 transport;       /* offset of the transport header in the frame */
	__u16 fragment_at;     /* of a fragment: offset in the frame of its part of the datagram */
	__u16 fragment_offset; /* and where that part lies in the datagram */
	__u8 part;	       /* enum packet_part */
	__u8 icmp_type;	       /* if the protocol is ICMP or ICMPv6 */
	__u8 transport_length; /* of the TCP or UDP header, else 0 */
	__u8 quoted;	       /* set by the caller: an ICMP error's quote may end early, but is read
				  no further than its own header says */
	__u8 hop_limit;
	__u8 options; /* 1: IPv4 options, or IPv6 extension headers besides the fragment's */
	__u8 v4;      /* 1: IPv4, 0: IPv6, or nothing was read */
};

/*
 * The linear part of a frame. Both words of the context are 32 bits wide to the compiler and
 * pointers to the verifier; left to itself the compiler may keep one in half a register, which is a
 * pointer no more.
 */
static __always_inline void *frame_start(const struct __sk_buff *skb)
{
	void *start;

	asm volatile("%[start] = *(u32 *)(%[skb] + %[data])"
		     : [start] "=r"(start)
		     : [skb] "r"(skb), [data] "i"(offsetof(struct __sk_buff, data)));
	return start;
}

static __always_inline void *frame_end(const struct __sk_buff *skb)
{
	void *end;

	asm volatile("%[end] = *(u32 *)(%[skb] + %[data_end])"
		     : [end] "=r"(end)
		     : [skb] "r"(skb), [data_end] "i"(offsetof(struct __sk_buff, data_end)));
	return end;
}

/* The type of the request that `type` replies to, 0 if it is no reply. */
static __always_inline __u8 icmp_request_of(__u8 protocol, __u8 type)
{
	if (protocol == PROTOCOL_ICMPV6)
		return type == ICMPV6_ECHO_REPLY ? ICMPV6_ECHO_REQUEST : 0;
	if (type == ICMP_ECHOREPLY)
		return ICMP_ECHO;
	return type == ICMP_TIMESTAMPREPLY ? ICMP_TIMESTAMP : 0;
}

static __always_inline bool icmp_is_request(__u8 protocol, __u8 type)
{
	if (protocol == PROTOCOL_ICMPV6)
		return type == ICMPV6_ECHO_REQUEST;
	return type == ICMP_ECHO || type == ICMP_TIMESTAMP;
}

/* An error that quotes the packet it is about. */
static __always_inline bool icmp_is_error(__u8 protocol, __u8 type)
{
	if (protocol == PROTOCOL_ICMPV6)
		return type >= ICMPV6_DEST_UNREACH && type <= ICMPV6_PARAMPROB;
	if (protocol != IPPROTO_ICMP)
		return false;
	return type == ICMP_DEST_UNREACH || type == ICMP_SOURCE_QUENCH ||
	       type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
}

static __always_inline bool protocol_has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

/* Whether `size` bytes of a transport header lie within the packet, and not in padding behind it. */
static __always_inline bool packet_holds(const struct packet *packet, __u32 size)
{
	return packet->transport + size <= packet->end;
}

static __always_inline int packet_parse_icmp(struct __sk_buff *skb, struct packet *packet)
{
	struct {
		__u8 type, code;
		__be16 checksum, identifier, sequence;
	} header;
	struct flow *flow = &packet->flow;
	__u8 request;

	if (!packet_holds(packet, sizeof(header)) ||
	    bpf_skb_load_bytes(skb, packet->transport, &header, sizeof(header)))
		return PACKET_TRANSPORT;
	packet->icmp_type = header.type;
	request = icmp_request_of(flow->protocol, header.type);
	if (request) {
		flow->source_port = bpf_htons(request);
		flow->destination_port = header.identifier;
	} else {
		flow->source_port =
			icmp_is_request(flow->protocol, header.type) ? header.identifier : 0;
		flow->destination_port = bpf_htons(header.type);
	}
	return PACKET_FINE;
}

/* The start of a TCP header, as far as anybody here reads it. */
struct tcp_start {
	__be16 ports[2];
	__be32 sequence, acknowledged;
	__u8 offset; /* words of the header, in the upper half */
} __attribute__((packed));

static __always_inline int packet_parse_tcp(struct __sk_buff *skb, struct packet *packet)
{
	struct tcp_start tcp;

	if (bpf_skb_load_bytes(skb, packet->transport, &tcp, sizeof(tcp)))
		return PACKET_TRANSPORT;
	packet->flow.source_port = tcp.ports[0];
	packet->flow.destination_port = tcp.ports[1];
	packet->transport_length = (tcp.offset >> 4) * 4;
	return packet->transport_length < sizeof(struct tcphdr) ? PACKET_TRANSPORT : PACKET_FINE;
}

/*
 * Less than the packet has room for is legal (RFC 9868), more is not. Of a first fragment it is the length of
 * the whole, of a GSO frame that of all segments, if they fit 16 bits.
 */
static __always_inline bool udp_length_is_good(struct __sk_buff *skb, const struct packet *packet)
{
	__be16 length;

	if (packet->part != PART_WHOLE || skb->gso_size)
		return true;
	if (bpf_skb_load_bytes(skb, packet->transport + 4, &length, sizeof(length)))
		return false;
	return bpf_ntohs(length) >= 8 && packet_holds(packet, bpf_ntohs(length));
}

static __always_inline int packet_parse_others(struct __sk_buff *skb, struct packet *packet)
{
	__be16 ports[2];

	if (!packet_holds(packet, sizeof(ports)) ||
	    bpf_skb_load_bytes(skb, packet->transport, ports, sizeof(ports)))
		return PACKET_TRANSPORT;
	packet->flow.source_port = ports[0];
	packet->flow.destination_port = ports[1];
	if (packet->quoted)
		return PACKET_FINE;
	packet->transport_length = 8;
	if (packet->flow.protocol == IPPROTO_UDP && !udp_length_is_good(skb, packet))
		return PACKET_TRANSPORT;
	return PACKET_FINE;
}

/* Of a quote the ports are enough. */
static __always_inline int packet_parse_ports(struct __sk_buff *skb, struct packet *packet)
{
	int fault = packet->flow.protocol == IPPROTO_TCP && !packet->quoted ?
			    packet_parse_tcp(skb, packet) :
			    packet_parse_others(skb, packet);

	if (!fault && !packet_holds(packet, packet->transport_length))
		return PACKET_TRANSPORT;
	return fault;
}

static __always_inline int packet_parse_transport(struct __sk_buff *skb, struct packet *packet)
{
	__u8 protocol = packet->flow.protocol;

	if (packet->part == PART_LATER)
		return PACKET_FINE;
	if (protocol_has_ports(protocol))
		return packet_parse_ports(skb, packet);
	if (protocol == (address_is_v4(&packet->flow.source) ? IPPROTO_ICMP : PROTOCOL_ICMPV6))
		return packet_parse_icmp(skb, packet);
	return PACKET_FINE;
}

static __always_inline __u8 packet_part(__u32 offset, __u32 more)
{
	if (offset)
		return PART_LATER;
	return more ? PART_FIRST : PART_WHOLE;
}

static __noinline int packet_parse_v4(struct __sk_buff *skb, __u32 at, struct packet *packet)
{
	struct iphdr ip;
	__u32 header, total, fragment;

	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)))
		return PACKET_MALFORMED;
	header = ip.ihl * 4;
	total = bpf_ntohs(ip.tot_len);
	if (!total && skb->gso_size) /* longer than 16 bits can say (BIG TCP, Linux 6.3) */
		total = skb->len - at;
	if (ip.version != 4 || header < sizeof(ip) || total < header)
		return PACKET_MALFORMED;
	if (!packet->quoted || at + total < packet->end)
		packet->end = at + total;
	if (packet->end > skb->len || at + header > packet->end)
		return PACKET_MALFORMED;
	fragment = bpf_ntohs(ip.frag_off);
	packet->flow.source = address_from_v4(ip.saddr);
	packet->flow.destination = address_from_v4(ip.daddr);
	packet->flow.protocol = ip.protocol;
	packet->hop_limit = ip.ttl;
	packet->options = header > sizeof(ip);
	packet->identification = bpf_htonl(bpf_ntohs(ip.id));
	packet->part = packet_part(fragment & IPV4_OFFSET, fragment & IPV4_MORE);
	packet->fragment_offset = (fragment & IPV4_OFFSET) * 8;
	packet->transport = at + header;
	packet->fragment_at = packet->transport;
	return packet_parse_transport(skb, packet);
}

static __noinline int packet_parse_v6(struct __sk_buff *skb, __u32 at, struct packet *packet)
{
	struct ipv6hdr ip;
	struct {
		__u8 next, length;
		__be16 offset;
		__be32 identification;
	} extension;
	__u32 cursor = at + sizeof(ip), step, end;
	__u8 next;

	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.version != 6)
		return PACKET_MALFORMED;
	/* A GSO frame may be longer than 16 bits can say (BIG TCP, Linux 5.19). */
	end = ip.payload_len || !skb->gso_size ? cursor + bpf_ntohs(ip.payload_len) : skb->len;
	if (!packet->quoted || end < packet->end)
		packet->end = end;
	if (packet->end > skb->len || cursor > packet->end)
		return PACKET_MALFORMED;
	__builtin_memcpy(&packet->flow.source, &ip.saddr, sizeof(struct address));
	__builtin_memcpy(&packet->flow.destination, &ip.daddr, sizeof(struct address));
	/* On a wire these are nobody's; here they would pass for IPv4. */
	if (address_is_v4(&packet->flow.source) || address_is_v4(&packet->flow.destination))
		return PACKET_MALFORMED;
	packet->hop_limit = ip.hop_limit;
	next = ip.nexthdr;
	for (int i = 0; i < EXTENSIONS_MAX; i++) {
		if (next != EXTENSION_HOP_BY_HOP && next != EXTENSION_ROUTING &&
		    next != EXTENSION_OPTIONS && next != EXTENSION_FRAGMENT)
			break;
		if (cursor + sizeof(extension) > packet->end ||
		    bpf_skb_load_bytes(skb, cursor, &extension, sizeof(extension)))
			return PACKET_MALFORMED;
		step = 8 * (extension.length + 1);
		if (next == EXTENSION_FRAGMENT) {
			__u32 fragment = bpf_ntohs(extension.offset);

			packet->part = packet_part(fragment & IPV6_OFFSET, fragment & IPV6_MORE);
			packet->fragment_offset = fragment & IPV6_OFFSET;
			packet->fragment_at = cursor + 8;
			packet->identification = extension.identification;
			step = 8;
		} else {
			packet->options = 1;
		}
		next = extension.next;
		cursor += step;
		if (packet->part == PART_LATER)
			break;
	}
	if (packet->part != PART_LATER &&
	    (next == EXTENSION_HOP_BY_HOP || next == EXTENSION_ROUTING ||
	     next == EXTENSION_OPTIONS || next == EXTENSION_FRAGMENT))
		return PACKET_EXTENSION;
	packet->flow.protocol = next;
	packet->transport = cursor;
	return packet_parse_transport(skb, packet);
}

/*
 * Read the IP packet at offset `at`. `packet` is zeroed but for `quoted`, and then `end`. Returns an enum
 * packet_fault.
 */
static __always_inline int packet_parse(struct __sk_buff *skb, __u32 at, bool v4,
					struct packet *packet)
{
	packet->v4 = v4;
	return v4 ? packet_parse_v4(skb, at, packet) : packet_parse_v6(skb, at, packet);
}

/* TCP or UDP whose header is all at hand, at `transport` of the frame. */
static __always_inline bool packet_read_transport(struct __sk_buff *skb, void *header,
						  struct packet *packet)
{
	void *end = frame_end(skb);
	struct tcphdr *tcp = header;

	if (packet->flow.protocol == IPPROTO_TCP) {
		if ((void *)(tcp + 1) > end)
			return false;
		packet->transport_length = tcp->doff * 4;
		if (packet->transport_length < sizeof(*tcp))
			return false;
	} else {
		if (packet->flow.protocol != IPPROTO_UDP || header + 8 > end)
			return false;
		packet->transport_length = 8;
		/* Any other length is rare, whether right or wrong. */
		if (packet->transport + bpf_ntohs(((struct udphdr *)header)->len) != packet->end)
			return false;
	}
	packet->flow.source_port = tcp->source;
	packet->flow.destination_port = tcp->dest;
	return packet_holds(packet, packet->transport_length);
}

static __always_inline bool packet_read_v4(struct __sk_buff *skb, struct packet *packet)
{
	struct iphdr *ip = frame_start(skb) + ETH_HLEN;
	__u32 total;

	if ((void *)(ip + 1) > frame_end(skb))
		return false;
	total = bpf_ntohs(ip->tot_len);
	if (*(__u8 *)ip != 0x45 || ip->frag_off & bpf_htons(IPV4_MORE | IPV4_OFFSET) ||
	    total < sizeof(*ip) || ETH_HLEN + total > skb->len)
		return false;
	packet->flow.source = address_from_v4(ip->saddr);
	packet->flow.destination = address_from_v4(ip->daddr);
	packet->flow.protocol = ip->protocol;
	packet->hop_limit = ip->ttl;
	packet->transport = ETH_HLEN + sizeof(*ip);
	packet->end = ETH_HLEN + total;
	return packet_read_transport(skb, ip + 1, packet);
}

static __always_inline bool packet_read_v6(struct __sk_buff *skb, struct packet *packet)
{
	struct ipv6hdr *ip = frame_start(skb) + ETH_HLEN;

	if ((void *)(ip + 1) > frame_end(skb))
		return false;
	packet->end = ETH_HLEN + sizeof(*ip) + bpf_ntohs(ip->payload_len);
	if (ip->version != 6 || packet->end > skb->len)
		return false;
	packet->flow.source = *(struct address *)&ip->saddr;
	packet->flow.destination = *(struct address *)&ip->daddr;
	if (address_is_v4(&packet->flow.source) || address_is_v4(&packet->flow.destination))
		return false;
	packet->flow.protocol = ip->nexthdr;
	packet->hop_limit = ip->hop_limit;
	packet->transport = ETH_HLEN + sizeof(*ip);
	return packet_read_transport(skb, ip + 1, packet);
}

/*
 * What packet_parse() makes of a frame's packet, five times as fast for one that is whole, without
 * options, TCP or UDP, and in the linear part of the skb. False for any other; `packet`, zeroed
 * before, is then to be zeroed again.
 */
static __always_inline bool packet_read(struct __sk_buff *skb, bool v4, struct packet *packet)
{
	packet->v4 = v4;
	return v4 ? packet_read_v4(skb, packet) : packet_read_v6(skb, packet);
}

/*
 * Whether the segments of a GSO frame that is no plain TCP are short enough for the device. If there is a
 * tunnel, `gso_size` is that of the inner packets, and only the kernel knows how long the headers before
 * them are. Before Linux 5.12 it cannot be asked, and the stack finds out.
 */
static __noinline bool segments_fit(struct __sk_buff *skb, __u32 ifindex)
{
	__u32 length = 0;

	return LINUX_KERNEL_VERSION >= KERNEL_VERSION(5, 12, 0) &&
	       !bpf_check_mtu(skb, ifindex, &length, 0, BPF_MTU_CHK_SEGS);
}

/*
 * Whether the packet, or for a GSO frame its longest segment, takes at most `mtu` bytes of IP on the wire of
 * the device. What lies behind the packet in the frame counts: it is sent as well.
 */
static __always_inline bool packet_fits(struct __sk_buff *skb, const struct packet *packet,
					__u32 mtu, __u32 ifindex)
{
	if (skb->len - ETH_HLEN <= mtu)
		return true;
	if (!skb->gso_size)
		return false;
	if (packet->flow.protocol != IPPROTO_TCP)
		return segments_fit(skb, ifindex);
	return packet->transport - ETH_HLEN + packet->transport_length + skb->gso_size <= mtu;
}

/*
 * The same as a number, for whoever has no device to ask the kernel about: of a tunnel's GSO frame it is exact
 * if the last segment is as long as the others, and else may be too short.
 */
static __always_inline __u32 packet_wire_length(struct __sk_buff *skb, const struct packet *packet)
{
	__u32 length = skb->len - ETH_HLEN, headers, segments;

	if (!skb->gso_size)
		return length;
	headers = packet->transport - ETH_HLEN + packet->transport_length;
	segments = skb->gso_segs * skb->gso_size;
	if (segments < length && length - segments > headers)
		headers = length - segments;
	return headers + skb->gso_size < length ? headers + skb->gso_size : length;
}

#endif
