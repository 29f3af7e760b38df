"""What in this node's netfilter acts upon forwarded packets of pods, which the fast path would slip past.

``Firewall.obstacles`` says what and where; the fast path stays off while there is any. It reads from the top:

    firewall    asks both of the kernel's packet filters, remembers, notices changes     watch
    judge       rules to obstacles, pure; whose rules are known to be harmless           benign
    rule        tables, chains and rules as values                                       addresses
    nft         nf_tables over netlink, chain by chain                                   connection
                expressions to steps: expression, comparison, registers, listing
    xtables     iptables-legacy by getsockopt; a table of it is a blob
    extension   the matches and targets that both of them share

Not looked at: XDP and tc programs of others, bpf programs of type netfilter, tables of bridges and of ARP.
"""

from __future__ import annotations

from datapath.firewall.firewall import Firewall
from datapath.firewall.judge import Obstacle

__all__ = ["Firewall", "Obstacle"]
