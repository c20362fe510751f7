"""Forgets that a packet from 127.0.0.1 needs another source address on the bridge."""
# check: localhost
# expect: a packet from 127.0.0.1 found no way back


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
    ip saddr {subnet} oifname != "{name}" masquerade
    oifname "{name}" ip saddr {subnet} ct status dnat masquerade
  }}
"""
