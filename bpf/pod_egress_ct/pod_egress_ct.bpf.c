// SPDX-License-Identifier: GPL-2.0
/* This file holds pod_egress for kernels whose conntrack can be asked by a program. */
#define ASK_CONNTRACK
#include "pod_egress/pod_egress.bpf.c"
