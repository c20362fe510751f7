"""Resources that only some containers ask for: disks, huge pages, network classes, RDMA.

**Interface:** :class:`BlockIO`, :class:`HugepageLimit`, :class:`Network`,
:class:`Rdma`.

**See:** OCI runtime specification, config-linux.md, "Block IO" and below.
"""

from minidock.spec.codec import Value, named, value


# %% Disks
@value
class WeightDevice(Value):
    """A share of one disk's time (10 to 1000)."""

    major: int
    minor: int
    weight: int | None = None
    leaf_weight: int | None = None


@value
class ThrottleDevice(Value):
    """A limit for one disk: bytes, or operations, per second."""

    major: int
    minor: int
    rate: int


@value
class BlockIO(Value):
    """Shares of disks, and limits."""

    weight: int | None = None
    leaf_weight: int | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = named(
        "throttleReadIOPSDevice", default=()
    )
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = named(
        "throttleWriteIOPSDevice", default=()
    )


# %% Huge pages, network classes, RDMA
@value
class HugepageLimit(Value):
    """How many bytes of huge pages of the size ``page_size`` (``2MB``)."""

    page_size: str
    limit: int


@value
class Priority(Value):
    """The priority of what is sent through the device ``name``."""

    name: str
    priority: int


@value
class Network(Value):
    """A mark on the packets of the group's sockets (version 1 only)."""

    class_id: int | None = named("classID", default=None)
    priorities: tuple[Priority, ...] = ()


@value
class Rdma(Value):
    """How many handles and objects of one RDMA device."""

    hca_handles: int | None = None
    hca_objects: int | None = None
