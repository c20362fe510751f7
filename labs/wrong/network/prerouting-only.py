"""DNAT only in prerouting: the host itself gets no answer."""
# check: localhost
# expect: what the host sends passes the hook output


def hooks(name: str, subnet: str) -> str:
    return f"""\
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    meta l4proto {{ tcp, udp }} fib daddr type local jump publish
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    ip saddr {subnet} oifname != "{name}" masquerade
    oifname "{name}" ip saddr 127.0.0.0/8 masquerade
    oifname "{name}" ip saddr {subnet} ct status dnat masquerade
  }}
"""
