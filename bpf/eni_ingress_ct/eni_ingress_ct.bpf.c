// SPDX-License-Identifier: GPL-2.0
/* This file holds eni_ingress for kernels whose conntrack can be asked by a program. */
#define ASK_CONNTRACK
#include "eni_ingress/eni_ingress.bpf.c"
