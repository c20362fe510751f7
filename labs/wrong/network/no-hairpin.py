"""Forgets the container that calls its own published port."""
# check: hairpin
# expect: it gets an answer from itself


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
    oifname "{name}" ip saddr 127.0.0.0/8 masquerade
  }}
"""
