"""Firewall: rewriting addresses in packets, by nftables.

Containers have private addresses, so what they send out must look as if the
host had sent it (masquerading), and what arrives at a published port must be
sent on to the container (DNAT). The table is written once; a published port
is one element in a map, so a container without ports costs nothing here.

The traps. A packet that the host itself sends never passes ``prerouting``:
without the same rule in ``output``, localhost does not answer. A packet from
127.0.0.1 may not leave the loopback unless ``route_localnet`` allows it, and
the answer would never come back without masquerading; the same goes for a
container that calls its own published port (the hairpin). And where another
engine has set the forward policy to drop, no accept of ours helps: a packet
must pass *every* table, so the exception must be made in the other's chain.

**Interface:** :class:`Firewall`.

**See:** nft(8), the kernel's ``ip-sysctl`` on ``route_localnet``.
"""

import shutil
import subprocess
from collections.abc import Iterable

from minidock.errors import Unavailable
from minidock.network.addresses import Endpoint

# %% The table
_PUBLISHED = """\
  map any_address {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
  map one_address {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }}
  chain guard {{
    type filter hook prerouting priority raw;
    iifname "{name}" ip daddr 127.0.0.0/8 drop
  }}
  chain publish {{
    dnat ip to ip daddr . meta l4proto . th dport map @one_address
    dnat ip to meta l4proto . th dport map @any_address
  }}
"""


def hooks(name: str, subnet: str) -> str:
    """The chains that the kernel calls: what arrives, what the host sends, what goes out."""
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
    oifname "{name}" ip saddr {subnet} ct status dnat masquerade
  }}
"""


def _run(*command: str, text: str = "") -> str:
    if shutil.which(command[0]) is None:
        raise Unavailable(f"{command[0]} is not installed: container networking needs nftables")
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


# %% Publishing
class Firewall:
    """The nftables table of the bridge ``name``."""

    def __init__(self, name: str, subnet: str) -> None:
        self.name = name
        self.subnet = subnet

    def install(self, endpoints: Iterable[Endpoint]) -> None:
        """Write the table anew, with the ports of ``endpoints``, in one transaction."""
        # Adding before deleting: deleting what is not there is an error.
        script = f"add table ip {self.name}\ndelete table ip {self.name}\n"
        script += f"table ip {self.name} {{\n{_PUBLISHED.format(name=self.name)}"
        script += f"{hooks(self.name, self.subnet)}}}\n"
        for endpoint in endpoints:
            script += self._elements("add", endpoint)
        _run("nft", "-f", "-", text=script)

    def remove(self) -> None:
        """Remove the table, if it is there."""
        _run("nft", "-f", "-", text=f"add table ip {self.name}\ndelete table ip {self.name}\n")

    def publish(self, endpoint: Endpoint) -> None:
        """Lead the host's ports to the container."""
        _run("nft", "-f", "-", text=self._elements("add", endpoint))

    def withdraw(self, endpoint: Endpoint) -> None:
        """Take :meth:`publish` back; also when it never happened."""
        script = f"add table ip {self.name}\n"
        script += self._elements("add", endpoint) + self._elements("delete", endpoint)
        _run("nft", "-f", "-", text=script)

    def _elements(self, verb: str, endpoint: Endpoint) -> str:
        script = ""
        for port in endpoint.ports:
            key, name = f"{port.protocol} . {port.host_port}", "any_address"
            if port.host_ip not in ("", "0.0.0.0"):
                key, name = f"{port.host_ip} . {key}", "one_address"
            value = f"{endpoint.address} . {port.container_port}"
            script += f"{verb} element ip {self.name} {name} {{ {key} : {value} }}\n"
        return script

    # %% Another engine's firewall
    def open_foreign(self) -> None:
        """Where the iptables FORWARD policy is to drop, let our packets pass there too."""
        if shutil.which("iptables") is None or not self.foreign_drops():
            return
        for chain, rule in self._foreign_rules():
            if not self._iptables("-C", chain, rule):
                _run("iptables", "-w", "-I", chain, *rule)

    def close_foreign(self) -> None:
        """Remove the rules that :meth:`open_foreign` made, if any."""
        if shutil.which("iptables") is None:
            return
        for chain, rule in self._foreign_rules():
            if self._iptables("-C", chain, rule):
                _run("iptables", "-w", "-D", chain, *rule)

    def foreign_drops(self) -> bool:
        return "-P FORWARD DROP" in _run("iptables", "-w", "-S", "FORWARD")

    def _foreign_rules(self) -> list[tuple[str, list[str]]]:
        # Docker leaves DOCKER-USER alone when it rewrites its own rules.
        chain = "DOCKER-USER" if self._iptables("-n", "-L", ["DOCKER-USER"]) else "FORWARD"
        return [(chain, [way, self.name, "-j", "ACCEPT"]) for way in ("-i", "-o")]

    def _iptables(self, verb: str, what: str, rest: list[str]) -> bool:
        command = ["iptables", "-w", verb, what, *rest]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
