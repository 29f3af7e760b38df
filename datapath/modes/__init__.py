"""Network modes, one package each, all behind ``port.ModePort``; ``node_datapath`` puts them together.

policy_route   a veth pair per pod, rules to a shared ENI's table
macvlan        a macvlan slave of an ENI of the pod's own, moved into the pod: no link on the host. It proves
               that nothing above assumes one, and is not offered to users
"""
