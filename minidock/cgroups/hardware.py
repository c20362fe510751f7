"""Limits of hardware: disks, huge pages, classes of packets, RDMA.

Few containers ask for any of these, and few hosts have all the controllers,
so they are apart. What they have in common is that a limit is a line of
text for one device, or one size of pages.

The trap is silence: a limit that this host cannot keep must be an error, or
somebody relies on it. Weights need a disk scheduler that knows them (BFQ),
and version 2 has no classes of packets at all.

**Interface:** :func:`lines_v1`, :func:`lines_v2`: files to write, and what.

**See:** cgroup-v1/blkio-controller.rst, hugetlb.rst, net_cls.rst,
net_prio.rst, rdma.rst; cgroup-v2.rst, "IO", "HugeTLB", "RDMA".
"""

from collections.abc import Iterator
from typing import Any

from minidock.errors import Unavailable
from minidock.spec.runtime import Resources

Line = tuple[str, str, str]  # the controller, the file, what to write

THROTTLES = {
    "throttleReadBpsDevice": ("read_bps_device", "rbps"),
    "throttleWriteBpsDevice": ("write_bps_device", "wbps"),
    "throttleReadIOPSDevice": ("read_iops_device", "riops"),
    "throttleWriteIOPSDevice": ("write_iops_device", "wiops"),
}


# %% Version 1
def lines_v1(resources: Resources) -> Iterator[Line]:
    """A file for each kind of limit."""
    disks = resources.block_io
    if disks.get("weight"):
        yield "blkio", "blkio.weight", str(disks["weight"])
    for one in disks.get("weightDevice", ()):
        if one.get("weight"):
            yield "blkio", "blkio.weight_device", f"{_device(one)} {one['weight']}"
    for name, (file, _) in THROTTLES.items():
        for one in disks.get(name, ()):
            yield "blkio", f"blkio.throttle.{file}", f"{_device(one)} {one['rate']}"
    for page in resources.hugepage_limits:
        yield "hugetlb", f"hugetlb.{page['pageSize']}.limit_in_bytes", str(page["limit"])
    if resources.network.get("classID"):
        yield "net_cls", "net_cls.classid", str(resources.network["classID"])
    for one in resources.network.get("priorities", ()):
        yield "net_prio", "net_prio.ifpriomap", f"{one['name']} {one['priority']}"
    yield from _rdma(resources)


def _device(entry: dict[str, Any]) -> str:
    return f"{entry['major']}:{entry['minor']}"


def _rdma(resources: Resources) -> Iterator[Line]:
    for name, limits in resources.rdma.items():
        words = {"hcaHandles": "hca_handle", "hcaObjects": "hca_object"}
        text = " ".join(f"{words[key]}={value}" for key, value in limits.items() if key in words)
        yield "rdma", "rdma.max", f"{name} {text}"


# %% Version 2
def lines_v2(resources: Resources) -> Iterator[Line]:
    """One file for all limits of the disks; other numbers for weights."""
    disks = resources.block_io
    if disks.get("weight"):
        yield "io", "io.bfq.weight", str(disks["weight"])
    for one in disks.get("weightDevice", ()):
        if one.get("weight"):
            yield "io", "io.bfq.weight", f"{_device(one)} {one['weight']}"
    for name, (_, word) in THROTTLES.items():
        for one in disks.get(name, ()):
            yield "io", "io.max", f"{_device(one)} {word}={one['rate']}"
    for page in resources.hugepage_limits:
        yield "hugetlb", f"hugetlb.{page['pageSize']}.max", str(page["limit"])
    if resources.network:
        raise Unavailable("linux.resources.network needs cgroup v1; this host has v2")
    yield from _rdma(resources)
