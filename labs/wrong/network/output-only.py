"""DNAT only in output: nobody else gets an answer."""
# check: published
# expect: what arrives passes the hook prerouting


def hooks(name: str, subnet: str) -> str:
    return f"""\
  chain output {{
    type nat hook output priority -100;
    meta l4proto {{ tcp, udp }} fib daddr type local jump publish
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    ip saddr {subnet} oifname != "{name}" masquerade
    oifname "{name}" ip saddr 127.0.0.0/8 masquerade
    oifname "{name}" ip saddr {subnet} ct status dnat masquerade
  }}
"""
