/* SPDX-License-Identifier: GPL-2.0 */
/* This file holds what tells two flows apart, as a map key. */
#ifndef TERWAY_FLOW_H
#define TERWAY_FLOW_H

#include "include/address.h"

/*
 * One direction of a flow. Of a query (ICMP echo and the like) the ports are made so that
 * the reversed flow of a request is the flow of its reply, and of nothing else:
 *	request		source_port = identifier	destination_port = type of the request
 *	reply		source_port = type of the request	destination_port = identifier
 *	other ICMP	source_port = 0			destination_port = type
 * Both are 0 for protocols without ports and for fragments after the first.
 */
struct flow {
	struct address source;
	struct address destination;
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 padding[3];
};

_Static_assert(sizeof(struct flow) == 40, "keys are compared by byte");

/*
 * One datagram in fragments, by what RFC 791 and RFC 8200 say is unique: IPv6 has the protocol not, and its
 * fragments need not agree about it.
 */
struct datagram {
	struct address source;
	struct address destination;
	__be32 identification;
	__u8 protocol;
	__u8 padding[3];
};

_Static_assert(sizeof(struct datagram) == 40, "keys are compared by byte");

#endif
