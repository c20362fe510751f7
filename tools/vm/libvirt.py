"""libvirt, with or without systemd, and what it leaves behind.

Vagrant's provider talks to libvirtd, which starts QEMU, makes a bridge,
runs dnsmasq for its addresses and writes the firewall's rules. Where
systemd is in charge, it starts libvirtd; in a container, or on a CI
machine, we do: two daemons, and no more.

The traps. A libvirtd that ends leaves its networks alive: the bridge,
dnsmasq, the rules. It has no word for "everything of yours", so all that a
machine of ours makes carries one random prefix, and is looked for by that.

**Interface:** :func:`running`, :func:`answers`, :class:`Unusable`, :func:`virsh`, :func:`sweep`, :func:`remains`.

**See:** libvirtd(8), virsh(1); https://libvirt.org, "Firewall and network filtering".
"""

import contextlib
import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tools.vm.shell import Failed, run, say

URI = "qemu:///system"
DAEMONS = ("virtlogd", "libvirtd")
LISTS = {
    "domain": ("list", "--all", "--name"),
    "network": ("net-list", "--all", "--name"),
    "pool": ("pool-list", "--all", "--name"),
}


class Unusable(Exception):
    """libvirt cannot run on this machine; the text says why."""


# %% Starting, ending
@contextlib.contextmanager
def running(kvm: bool) -> Iterator[None]:
    """libvirtd, started if nobody has; what we start, we end. Raises :class:`Unusable`."""
    if answers():
        _try_a_network()
        yield
        return
    firewall = _chains()
    started = _start(kvm)
    try:
        _try_a_network()
        yield
    finally:
        _end(started)
        _remove_chains(firewall)


def answers() -> bool:
    """Whether libvirtd is there."""
    try:
        virsh("version")
    except Failed:
        return False
    return True


# A /dev/kvm that root may open and QEMU's user may not makes libvirtd doubt what it knows of QEMU,
# and ask again for every question: four seconds each, two minutes in all. So it gets a mount namespace
# in which nobody may open it; and as libvirtd would then stumble over that mount when it makes a /dev
# for QEMU, a configuration in which it makes none.
WITHOUT_KVM = (
    *("unshare", "--mount", "--propagation", "slave", "sh", "-euc"),
    """
    own=$(mktemp -d)
    if [ -e /dev/kvm ]; then
        touch "$own/kvm"; chmod 0 "$own/kvm"; mount --bind "$own/kvm" /dev/kvm
        cat /etc/libvirt/qemu.conf > "$own/qemu.conf"; echo 'namespaces = [ ]' >> "$own/qemu.conf"
        mount --bind "$own/qemu.conf" /etc/libvirt/qemu.conf
    fi
    rm -r "$own"
    exec "$0" "$@"
    """,
)


def _start(kvm: bool) -> list[str]:
    """The daemons that were started here (none, where systemd has started them)."""
    if Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "start", "libvirtd"], capture_output=True, check=False)
        started = []
    else:
        started = [name for name in DAEMONS if not _alive(name)]
        for name in started:
            try:
                run(*(WITHOUT_KVM if name == "libvirtd" and not kvm else ()), name, "-d")
            except Failed as error:
                raise Unusable(str(error)) from None
    for _ in range(100):
        if answers():
            return started
        time.sleep(0.1)
    raise Unusable("libvirtd does not answer")


def _alive(name: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        pid = int(Path(f"/run/{name}.pid").read_text())
        return Path(f"/proc/{pid}/comm").read_text().strip() == name
    return False


def _end(started: list[str]) -> None:
    """Networks first: nobody else would take them down. In a libvirtd of ours all machines are ours."""
    if "libvirtd" in started:
        sweep("minidock-")
        for name in virsh("net-list", "--name").split():
            virsh("net-destroy", name)
    for name in reversed(started):
        with contextlib.suppress(OSError, ValueError):
            pid = int(Path(f"/run/{name}.pid").read_text())
            os.kill(pid, signal.SIGTERM)
            for _ in range(100):
                if not Path(f"/proc/{pid}").exists():
                    break
                time.sleep(0.1)


# %% Tried, not believed
PROBE = """<network><name>{name}</name><bridge name='{bridge}'/><forward mode='nat'/>
<ip address='{prefix}.1' netmask='255.255.255.0'><dhcp><range start='{prefix}.2' end='{prefix}.9'/>
</dhcp></ip></network>"""


def _try_a_network() -> None:
    """What fails first on a strange machine: a bridge, dnsmasq, the firewall's rules."""
    word = secrets.token_hex(3)
    name = f"minidock-probe-{word}"
    text = PROBE.format(name=name, bridge=f"mdv{word}", prefix=subnet().rpartition(".")[0])
    try:
        run("virsh", "-q", "-c", URI, "net-create", "/dev/stdin", stdin=text.encode())
    except Failed as error:
        raise Unusable(f"libvirt cannot make a network here: {error}") from None
    virsh("net-destroy", name)


def subnet() -> str:
    """An address range ``192.168.x.0`` that this machine has no route to."""
    routes = run("ip", "-4", "route")
    free = [n for n in range(130, 250) if f"192.168.{n}." not in routes]
    return f"192.168.{secrets.choice(free)}.0"


def virsh(*arguments: str) -> str:
    """``virsh`` against the system's libvirtd. Raises :class:`Failed`."""
    return run("virsh", "-q", "-c", URI, *arguments)


# %% What is left behind
def remains(prefix: str) -> list[str]:
    """Everything whose name begins with ``prefix``: domains, networks, pools, and processes."""
    found = []
    for kind, words in LISTS.items():
        names = virsh(*words).split()
        found += [f"{kind} {name}" for name in names if name.startswith(prefix)]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            text = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if prefix in text and text.split()[0].endswith(
                ("qemu-system-x86_64", "dnsmasq", "ssh")
            ):
                found.append(f"process {path.parent.name} {text.split()[0]}")
    return sorted(found)


def sweep(prefix: str) -> None:
    """Take away all of it; in the order in which one holds the other."""
    for name in _named("domain", prefix):
        _try("destroy", name)
        virsh("undefine", name)
    for name in _named("pool", prefix):
        for line in virsh("vol-list", name).splitlines():
            virsh("vol-delete", "--pool", name, line.split()[0])
        _try("pool-destroy", name)
        virsh("pool-undefine", name)
    for name in _named("network", prefix):
        _try("net-destroy", name)
        _try("net-undefine", name)


def _named(kind: str, prefix: str) -> list[str]:
    return [name for name in virsh(*LISTS[kind]).split() if name.startswith(prefix)]


def _try(*arguments: str) -> None:
    """For what may have ended already; what has not is found by :func:`remains`."""
    with contextlib.suppress(Failed):
        virsh(*arguments)


# %% The firewall's chains
_TABLES = ("filter", "nat", "mangle")
_PROGRAMS = ("iptables", "ip6tables")


def _chains() -> set[tuple[str, str, str]]:
    """libvirt's chains, which it never removes: (program, table, rule or chain)."""
    found = set()
    for program in _PROGRAMS:
        for table in _TABLES:
            done = subprocess.run(
                [program, "-w", "-t", table, "-S"], capture_output=True, text=True, check=False
            )
            lines = [line for line in done.stdout.splitlines() if re.search(r"\bLIBVIRT_", line)]
            found |= {(program, table, line) for line in lines}
    return found


def _remove_chains(before: set[tuple[str, str, str]]) -> None:
    """Those that were not there before: rules, then the chains themselves."""
    new = sorted(_chains() - before)
    for letter, instead in (("A", "-D"), ("N", "-X")):
        for program, table, line in new:
            words = line.split()
            if words[0] == f"-{letter}":
                run(program, "-w", "-t", table, instead, *words[1:])
    if new:
        say("removed the firewall's chains that libvirt had made")
