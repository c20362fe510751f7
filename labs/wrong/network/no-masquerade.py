"""Lets containers' own addresses out, to which nobody can answer."""
# check: outside
# expect: the neighbour has no route to


def hooks(name: str, subnet: str) -> str:
    return f"""\
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    meta l4proto {{ tcp, udp }} fib daddr type local jump publish
  }}
  chain output {{
    type nat hook output priority -100;
    meta l4proto {{ tcp, udp }} fib daddr type local jump publish
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    oifname "{name}" ip saddr 127.0.0.0/8 masquerade
    oifname "{name}" ip saddr {subnet} ct status dnat masquerade
  }}
"""
