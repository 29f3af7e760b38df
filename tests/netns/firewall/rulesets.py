"""What others write, in their own shapes: kube-proxy, portmap, docker, Calico, kube-router, ufw and more."""

from __future__ import annotations

KUBE_PROXY_IPTABLES = """
*mangle
:PREROUTING ACCEPT
:KUBE-IPTABLES-HINT -
:KUBE-KUBELET-CANARY -
:KUBE-PROXY-CANARY -
COMMIT
*nat
:PREROUTING ACCEPT
:OUTPUT ACCEPT
:POSTROUTING ACCEPT
:KUBE-SERVICES -
:KUBE-NODEPORTS -
:KUBE-POSTROUTING -
:KUBE-MARK-MASQ -
:KUBE-SVC-NPX46M4PTMTKRN6Y -
:KUBE-SEP-ZP3FB6NMPNCO4VBJ -
:KUBE-SEP-2X5QZAVZQ7NGOTYB -
:KUBE-EXT-TCOU7JCQXEZGVUNU -
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-SERVICES -d 172.21.0.1/32 -p tcp -m tcp --dport 443 -j KUBE-SVC-NPX46M4PTMTKRN6Y
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-NODEPORTS -p tcp -m tcp --dport 30080 -j KUBE-EXT-TCOU7JCQXEZGVUNU
-A KUBE-EXT-TCOU7JCQXEZGVUNU -j KUBE-MARK-MASQ
-A KUBE-EXT-TCOU7JCQXEZGVUNU -j KUBE-SVC-NPX46M4PTMTKRN6Y
-A KUBE-SVC-NPX46M4PTMTKRN6Y -m statistic --mode random --probability 0.5 -j KUBE-SEP-ZP3FB6NMPNCO4VBJ
-A KUBE-SVC-NPX46M4PTMTKRN6Y -j KUBE-SEP-2X5QZAVZQ7NGOTYB
-A KUBE-SEP-ZP3FB6NMPNCO4VBJ -s 10.0.3.10/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-ZP3FB6NMPNCO4VBJ -p tcp -m tcp -j DNAT --to-destination 10.0.3.10:6443
-A KUBE-SEP-2X5QZAVZQ7NGOTYB -p tcp -m tcp -j DNAT --to-destination 10.0.3.11:6443
COMMIT
*filter
:INPUT ACCEPT
:FORWARD ACCEPT
:OUTPUT ACCEPT
:KUBE-EXTERNAL-SERVICES -
:KUBE-FIREWALL -
:KUBE-FORWARD -
:KUBE-NODEPORTS -
:KUBE-PROXY-FIREWALL -
:KUBE-SERVICES -
-A INPUT -j KUBE-FIREWALL
-A OUTPUT -j KUBE-FIREWALL
-A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-SERVICES -d 172.21.0.9/32 -p tcp -m tcp --dport 80 -j REJECT
-A KUBE-EXTERNAL-SERVICES -p tcp -m addrtype --dst-type LOCAL -m tcp --dport 30081 -j DROP
COMMIT
"""

KUBE_PROXY_NFT = """
table ip kube-proxy {
    map service-ips {
        type ipv4_addr . inet_proto . inet_service : verdict
        elements = { 172.21.0.1 . tcp . 443 : goto service-kubernetes }
    }
    map no-endpoint-services {
        type ipv4_addr . inet_proto . inet_service : verdict
        elements = { 172.21.0.9 . tcp . 80 : goto reject-chain }
    }
    chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
    chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
    chain filter-prerouting { type filter hook prerouting priority -110; ct state new jump no-endpoints; }
    chain filter-forward { type filter hook forward priority -110; ct state new jump no-endpoints; }
    chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }
    chain no-endpoints { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
    chain masquerading {
        meta mark & 0x4000 == 0 return
        meta mark set meta mark ^ 0x4000
        masquerade fully-random
    }
    chain reject-chain { reject; }
    chain service-kubernetes { meta l4proto tcp dnat to 10.0.3.10:6443; }
}
"""

PORTMAP_IPTABLES = """
*nat
:PREROUTING ACCEPT
:POSTROUTING ACCEPT
:CNI-DN-0123456789abcdef -
:CNI-HOSTPORT-DNAT -
:CNI-HOSTPORT-MASQ -
:CNI-HOSTPORT-SETMARK -
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
-A CNI-HOSTPORT-SETMARK -j MARK --set-xmark 0x2000/0x2000
-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
-A CNI-HOSTPORT-DNAT -p tcp -m multiport --dports 8080 -j CNI-DN-0123456789abcdef
-A CNI-DN-0123456789abcdef -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.0.1.5:80
COMMIT
"""

DOCKER = """
*nat
:PREROUTING ACCEPT
:POSTROUTING ACCEPT
:DOCKER -
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:FORWARD ACCEPT
:DOCKER -
:DOCKER-ISOLATION-STAGE-1 -
:DOCKER-ISOLATION-STAGE-2 -
:DOCKER-USER -
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER ! -i docker0 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
"""

LIBVIRT = """
*nat
:POSTROUTING ACCEPT
:LIBVIRT_PRT -
-A POSTROUTING -j LIBVIRT_PRT
-A LIBVIRT_PRT -s 192.168.122.0/24 -d 224.0.0.0/24 -j RETURN
-A LIBVIRT_PRT -s 192.168.122.0/24 ! -d 192.168.122.0/24 -j MASQUERADE
COMMIT
*filter
:FORWARD ACCEPT
:LIBVIRT_FWI -
:LIBVIRT_FWO -
-A FORWARD -j LIBVIRT_FWI
-A FORWARD -j LIBVIRT_FWO
-A LIBVIRT_FWI -d 192.168.122.0/24 -o virbr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A LIBVIRT_FWI -o virbr0 -j REJECT
-A LIBVIRT_FWO -i virbr0 -j REJECT
COMMIT
"""

PODMAN = """
*nat
:POSTROUTING ACCEPT
:NETAVARK-1D8721804F16F -
-A POSTROUTING -s 10.88.0.0/16 -j NETAVARK-1D8721804F16F
-A NETAVARK-1D8721804F16F -d 10.88.0.0/16 -j ACCEPT
-A NETAVARK-1D8721804F16F ! -d 224.0.0.0/4 -j MASQUERADE
COMMIT
"""

CALICO = """
table ip filter {
    map dispatch { type ifname : verdict; }
    chain FORWARD { type filter hook forward priority filter; counter jump cali-FORWARD; }
    chain cali-FORWARD { iifname "cali*" counter jump cali-from-wl-dispatch; }
    chain cali-from-wl-dispatch { iifname vmap @dispatch; counter drop; }
}
"""

KUBE_ROUTER = """
*filter
:FORWARD ACCEPT
:KUBE-ROUTER-FORWARD -
:KUBE-POD-FW-AAAAAAAAAAAAAAAA -
:KUBE-POD-FW-BBBBBBBBBBBBBBBB -
:KUBE-NWPLCY-DEFAULT -
-A FORWARD -m comment --comment "kube-router netpol" -j KUBE-ROUTER-FORWARD
-A KUBE-ROUTER-FORWARD -d 10.0.1.5/32 -j KUBE-POD-FW-AAAAAAAAAAAAAAAA
-A KUBE-ROUTER-FORWARD -s 10.0.1.6/32 -j KUBE-POD-FW-BBBBBBBBBBBBBBBB
-A KUBE-POD-FW-AAAAAAAAAAAAAAAA -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-POD-FW-AAAAAAAAAAAAAAAA -m conntrack --ctstate INVALID -j DROP
-A KUBE-POD-FW-AAAAAAAAAAAAAAAA -j KUBE-NWPLCY-DEFAULT
-A KUBE-POD-FW-AAAAAAAAAAAAAAAA -m mark ! --mark 0x10000/0x10000 -j REJECT
-A KUBE-POD-FW-BBBBBBBBBBBBBBBB -m mark ! --mark 0x10000/0x10000 -j REJECT
-A KUBE-NWPLCY-DEFAULT -j MARK --set-xmark 0x10000/0x10000
COMMIT
"""

UFW = """
*filter
:FORWARD ACCEPT
:ufw-before-forward -
:ufw-after-forward -
:ufw-reject-forward -
-A FORWARD -j ufw-before-forward
-A FORWARD -j ufw-after-forward
-A FORWARD -j ufw-reject-forward
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-forward -m conntrack --ctstate INVALID -j DROP
-A ufw-after-forward -m limit --limit 3/min -j LOG --log-prefix "[UFW BLOCK] "
-A ufw-reject-forward -j REJECT
COMMIT
"""
