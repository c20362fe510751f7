"""Translates every packet to the port, whomever it is for."""
# check: not_ours
# expect: only packets to this host's own addresses


def hooks(name: str, subnet: str) -> str:
    return f"""\
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    meta l4proto {{ tcp, udp }} jump publish
  }}
  chain output {{
    type nat hook output priority -100;
    meta l4proto {{ tcp, udp }} jump publish
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    ip saddr {subnet} oifname != "{name}" masquerade
    oifname "{name}" ip saddr 127.0.0.0/8 masquerade
    oifname "{name}" ip saddr {subnet} ct status dnat masquerade
  }}
"""
