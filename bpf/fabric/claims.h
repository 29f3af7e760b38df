/* SPDX-License-Identifier: GPL-2.0 */
/*
 * This file holds whose an address is when a host speaks to its link. A host that says of another's address, or
 * of the gateway's, that it is its own poisons the tables of its neighbours: no VPC carries that, and in the lab
 * it is a fault. That a VPC does not is inferred: its pages say only that an ENI sends from its own addresses.
 */
#ifndef TERWAY_FABRIC_CLAIMS_H
#define TERWAY_FABRIC_CLAIMS_H

#include "fabric/prefixes.h"
#include "lib/packet.h"

static __always_inline bool mac_equal(const __u8 *a, const __u8 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3] && a[4] == b[4] &&
	       a[5] == b[5];
}

/* fe80::/64 and a MAC in modified EUI-64 (RFC 4291, appendix A). */
static __always_inline struct address link_local_of(const __u8 *mac)
{
	struct address address = {
		{bpf_htonl(0xfe800000), 0,
		 bpf_htonl((__u32)(mac[0] ^ 2) << 24 | mac[1] << 16 | mac[2] << 8 | 0xff),
		 bpf_htonl(0xfe000000 | mac[3] << 16 | mac[4] << 8 | mac[5])}};

	return address;
}

/*
 * A link-local address that Linux makes of the MAC: EUI-64, or with the number of an IPvlan device in the middle
 * and the universal bit as it is. One that was made of a secret (RFC 7217) is unknown to the lab.
 */
static __always_inline bool address_is_of_mac(const struct address *address, const __u8 *mac)
{
	const __u8 *id = (const __u8 *)&address->word[2];

	return address->word[0] == bpf_htonl(0xfe800000) && !address->word[1] &&
	       (id[0] | 2) == (mac[0] | 2) && id[1] == mac[1] && id[2] == mac[2] &&
	       id[5] == mac[3] && id[6] == mac[4] && id[7] == mac[5];
}

static __always_inline bool address_is_own(const struct port *port, const struct address *address)
{
	__u32 home = address_home(address);

	if (home)
		return home == port->id;
	return address_is_of_mac(address, port->mac);
}

/* Any ENI's of the port's instance. */
static __always_inline bool address_is_of_instance(const struct port *port,
						   const struct address *address)
{
	struct port *owner = port_find(address_home(address));

	return owner && owner->instance == port->instance && port->instance;
}

static __always_inline bool address_is_gateway(const struct address *address)
{
	struct prefix_value *found = prefix_find(address);
	struct settings *settings = settings_get();
	struct address link_local;

	if (found && found->kind == PREFIX_ON_LINK && address_equal(&found->gateway, address))
		return true;
	if (!settings)
		return false;
	link_local = link_local_of(settings->gateway_mac);
	return address_equal(&link_local, address);
}

/* A port says that `address` is its own. Only ENIs are bound by what they were assigned. */
static __noinline enum fabric_reason claim_decide(const struct port *port,
						  const struct address *address)
{
	if (port->kind != PORT_ENI || address_is_own(port, address))
		return PASS_CONTROL;
	return address_is_gateway(address) ? DROP_CLAIM_GATEWAY : DROP_CLAIM_ADDRESS;
}

#endif
