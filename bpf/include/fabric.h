/* SPDX-License-Identifier: GPL-2.0 */
/* This file holds what the lab's fabric shares with Python: reasons, and the rows of its maps. */
#ifndef TERWAY_FABRIC_H
#define TERWAY_FABRIC_H

#include "include/address.h"
#include "include/flow.h"

/*
 * What became of a frame. Each frame adds one to one of these, on the port where it came in.
 * The prefix is the class: PASS_ is what a healthy node sees, DROP_ is what a VPC refuses. A number says nothing.
 * Numbers are never reused; new ones go before REASON_COUNT.
 */
enum fabric_reason {
	/* Delivered to the port that holds the destination. */
	PASS_FORWARDED = 0,
	/* An ARP request or a neighbour solicitation, answered with the gateway's MAC. */
	PASS_ANSWERED_ARP = 1,
	PASS_ANSWERED_ND = 2,
	/* What hosts say to their link of themselves and a VPC has no ear for: address probes,
	 * announcements, MLD, IGMP, router solicitations, DHCPv6. Ends here, and is no fault. */
	PASS_CONTROL = 3,

	/* The device is not a port of the fabric. */
	DROP_NO_PORT = 4,
	/* Too short, or lengths that contradict each other. */
	DROP_MALFORMED = 5,
	/* The frame's source, or the MAC in ARP, neighbour discovery or DHCP, is not the ENI's. */
	DROP_SRC_MAC = 6,
	/* Unicast to something else than the gateway's MAC. */
	DROP_DST_MAC = 7,
	/* Tagged with a VLAN id that no member of this trunk ENI has, with none (a priority alone), more than once,
	 * otherwise than by 802.1Q, or at an ENI that is no trunk. */
	DROP_VLAN = 8,
	/* Neither ARP nor IPv4 nor IPv6. */
	DROP_ETHERTYPE = 9,
	/* Broadcast or multicast that is not PASS_CONTROL: a VPC carries none. */
	DROP_MULTICAST = 10,
	/* An address was asked for that no vSwitch holds. */
	DROP_NEIGHBOUR = 11,
	/* More or other IPv6 extension headers than the fabric follows. */
	DROP_EXTENSION = 12,
	/* Longer than the MTU on the wire, which for a GSO frame means each of its segments. */
	DROP_MTU = 13,
	/* The source address is not assigned to the ENI. */
	DROP_SRC_ADDR = 14,
	/* Nothing holds the destination, or it may not be reached from here. */
	DROP_DST_ADDR = 15,
	/* Outside the VPC, and this lab has no outside. */
	DROP_NO_ROUTE = 16,
	/* A security group says no. */
	DROP_GROUP = 17,
	/* A later fragment whose first one was not seen, or that overlaps it. */
	DROP_FRAGMENT = 18,
	/* The kernel refused to change the frame (out of memory). */
	DROP_KERNEL = 19,

	/* A DHCP client's message, answered as the VPC does. */
	PASS_ANSWERED_DHCP = 20,
	/* An ENI says by ARP or neighbour discovery that the gateway's address is its own. */
	DROP_CLAIM_GATEWAY = 21,
	/* An ENI says so of an address that it has not been assigned, or asks its link by one. */
	DROP_CLAIM_ADDRESS = 22,
	/* An ENI plays the router: a router advertisement, a redirect, a query of IGMP or MLD. */
	DROP_CLAIM_ROUTER = 23,
	/* An ENI plays the DHCP server. */
	DROP_CLAIM_DHCP = 24,
	/* Neighbour discovery that RFC 4861 has every host discard: hop limit, checksum, code, options. */
	DROP_ND_INVALID = 25,
	/* From an address to itself. */
	DROP_LAND = 26,
	/* An ICMP error that quotes no session of its addressee's, or comes from nobody on that session's way. */
	DROP_ICMP_ERROR = 27,
	/* A new session, and the sender's instance has as many as it may have. */
	DROP_SESSIONS = 28,
	/* A new session, and the addressee's instance has as many as it may have. */
	DROP_PEER_SESSIONS = 29,

	REASON_COUNT,
};

enum port_kind {
	PORT_ENI = 0,
	PORT_SERVICE = 1,
	PORT_OUTSIDE = 2,
};

#define GROUP_WORDS 4 /* room for 256 security groups */

/* A run of rows in the rule table. */
struct rule_range {
	__u32 first;
	__u32 count;
};

/*
 * Key of `port_ids`: where a frame comes in. Several ports may share one device, each but one by a tag (802.1Q)
 * of its own.
 */
struct attach_point {
	__u32 ifindex; /* on the fabric's side */
	__u32 vlan;    /* 0: frames without a tag */
};

/* Value of `ports`, keyed by port id: a number that is never given twice, and never 0. */
struct port {
	__u32 id;
	__u32 ifindex; /* where frames to it leave, and with which tag */
	__u32 vlan;
	enum port_kind kind;
	__u8 mac[6];
	__u8 forwards; /* 1: SourceDestCheck is off */
	__u8 padding;
	struct rule_range ingress;
	struct rule_range egress;
	__u32 instance; /* the same for all ENIs of an instance, and 0 for what is none's */
	__u32 padding_2;
	__u64 groups[GROUP_WORDS]; /* bit n: member of group n */
};

_Static_assert(sizeof(struct port) == 80, "no hole");

/* Value of `assigned`, keyed by address, and of `port_ids`. */
struct home {
	__u32 port_id;
};

/* Key and value of `prefixes`, a longest-prefix match over 128 bits. */
struct prefix {
	__u32 length;
	struct address network;
};

enum prefix_kind {
	PREFIX_VPC = 0,	      /* inside the VPC, in no vSwitch */
	PREFIX_ON_LINK = 1,   /* inside a vSwitch */
	PREFIX_ROUTED = 2,    /* outside the VPC, a route entry leads there */
	PREFIX_DEFAULT = 3,   /* everything else, if a route entry leads there */
	PREFIX_ELSEWHERE = 4, /* IPv4, if none leads it: what is around ::ffff:0:0/96 is IPv6's */
};

/*
 * `home` has every address of the prefix that is not in `assigned`: the ENI that was given the prefix, or the
 * next hop of a route entry. 0 is nobody, or a next hop that is away.
 */
struct prefix_value {
	enum prefix_kind kind;
	struct home home;
	struct address gateway; /* the vSwitch's; :: outside of one */
};

/* Value of `leases`, keyed by port id: what DHCP tells an ENI that has a primary IPv4 address. */
struct lease {
	__be32 address;
	__be32 mask;
	__be32 gateway;
};

enum rule_peer {
	PEER_NETWORK = 0,
	PEER_GROUP = 1,
};

/*
 * The verifier follows the scan of a range row by row and keeps at most 8192 open branches:
 * this many rows of five branches fit.
 */
enum fabric_limit {
	RULES_PER_RANGE = 1024,
	RULE_ROWS = 65536, /* each half holds all groups of an account, full of rules */
};

/* Row of `rules`. The first row of a range that matches decides; none means no. */
struct rule {
	struct address network;
	struct address mask;
	enum rule_peer peer;
	__u16 port_first; /* host order; asked of TCP, UDP and SCTP only */
	__u16 port_span;  /* last - first */
	__u16 group;
	__u8 protocol;
	__u8 protocol_mask; /* 0: every protocol, 0xff: this one */
	__u8 only_v6;	    /* 1: never an IPv4 peer, whatever the mask says */
	__u8 accept;
	__u8 padding[2];
};

_Static_assert(sizeof(struct rule) == 48, "no hole");

/* The one row of `settings`. */
struct settings {
	__u32 mtu;
	__u32 outside_port; /* id; 0: none */
	__u32 epoch;	    /* grows when what was allowed may not be any more */
	__u8 gateway_mac[6];
	__u8 padding[2];
};

_Static_assert(sizeof(struct settings) == 20, "no hole");

/* Value of an instance's sessions, keyed by struct flow in the direction of the first packet. */
struct flow_state {
	__u64 seen; /* nanoseconds since boot */
	__u32 epoch;
	__u16 idle; /* seconds without a packet after which it is over */
	__u8 fins;  /* 1: its first direction has ended, 2: the other */
	__u8 padding;
};

/* Value of an instance's datagrams, keyed by struct datagram. */
struct datagram_state {
	__u64 seen;
	__u32 accepted;
	__u32 first_end; /* bytes of the datagram that its first fragment carried */
};

/* Value of `counters`, keyed by port id; key 0 counts DROP_NO_PORT. */
struct port_counters {
	__u64 count[REASON_COUNT];
};

#endif
