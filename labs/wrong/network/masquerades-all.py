"""Masquerades everything: a container cannot see who calls."""
# check: published
# expect: the packet was masqueraded on its way in


def hooks(name: str, subnet: str) -> str:
    return """\
  chain prerouting {
    type nat hook prerouting priority dstnat;
    meta l4proto { tcp, udp } fib daddr type local jump publish
  }
  chain output {
    type nat hook output priority -100;
    meta l4proto { tcp, udp } fib daddr type local jump publish
  }
  chain postrouting {
    type nat hook postrouting priority srcnat;
    masquerade
  }
"""
