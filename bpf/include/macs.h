/* SPDX-License-Identifier: GPL-2.0 */
/* This file holds the two MACs of a frame, as rows have them. */
#ifndef TERWAY_MACS_H
#define TERWAY_MACS_H

/* The first 12 bytes of a frame. */
struct macs {
	__u8 to[6];
	__u8 from[6];
};

#endif
