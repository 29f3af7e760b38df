/* SPDX-License-Identifier: GPL-2.0 */
/*
 * This file holds all that the node's datapath shares with Python, which reads it from BTF: a header for each concept.
 * A change of a row or of its meaning takes a new DATAPATH_VERSION: maps are pinned below a directory of that number,
 * so that programs and rows of two versions never meet.
 */
#ifndef TERWAY_DATAPATH_H
#define TERWAY_DATAPATH_H

#include "include/counter_rows.h"
#include "include/flow_rows.h"
#include "include/limits.h"
#include "include/pod_rows.h"
#include "include/prefix_rows.h"
#include "include/reasons.h"
#include "include/setting_row.h"
#include "include/uplink_row.h"

#endif
