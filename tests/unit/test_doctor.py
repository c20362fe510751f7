"""Every check of the doctor, on a well host and on a sick one."""

import pytest

from minidock import doctor
from minidock.doctor import FAIL, OK, WARN, Host

WELL = {
    "/proc/self/status": "CapBnd:\t000001ffffffffff\n",
    "/proc/sys/kernel/osrelease": "6.1.0-18-amd64\n",
    "/proc/filesystems": "nodev\ttmpfs\nnodev\toverlay\n",
    "/proc/self/mountinfo": (
        "20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    ),
    "/sys/fs/cgroup/cgroup.controllers": "cpu cpuset memory pids io\n",
    "/proc/sys/net/ipv4/ip_forward": "1\n",
}


def host(changes: dict[str, str] | None = None, euid: int = 0, tools: bool = True) -> Host:
    files = {**WELL, **(changes or {})}
    found = (lambda name: f"/usr/bin/{name}") if tools else (lambda name: None)
    return Host(
        lambda path: files[path], found, lambda: euid, lambda path: "user" not in (changes or {})
    )


@pytest.mark.parametrize(
    ("check", "sick", "level"),
    [
        (doctor.check_root, host(euid=1000), FAIL),
        (
            doctor.check_capabilities,
            host({"/proc/self/status": "CapBnd:\t0000000000000000\n"}),
            FAIL,
        ),
        (
            doctor.check_capabilities,
            host({"/proc/self/status": "CapBnd:\t000001fffeffffff\n"}),
            WARN,
        ),
        (doctor.check_kernel, host({"/proc/sys/kernel/osrelease": "4.19.0\n"}), FAIL),
        (doctor.check_namespaces, host({"user": ""}), FAIL),
        (doctor.check_overlay, host({"/proc/filesystems": "nodev\ttmpfs\n"}), WARN),
        (doctor.check_cgroups, host({"/proc/self/mountinfo": ""}), FAIL),
        (doctor.check_cgroups, host({"/sys/fs/cgroup/cgroup.controllers": "cpu\n"}), WARN),
        (doctor.check_forwarding, host({"/proc/sys/net/ipv4/ip_forward": "0\n"}), WARN),
    ],
)
def test_check(check: doctor.Check, sick: Host, level: str) -> None:
    well = check(host())
    assert isinstance(well, doctor.Finding) and well.level == OK
    found = check(sick)
    assert isinstance(found, doctor.Finding)
    assert (found.level, bool(found.mend), bool(found.chapter)) == (level, True, True)


def test_tools() -> None:
    assert all(finding.level == OK for finding in doctor.check_tools(host()))
    missing = doctor.check_tools(host(tools=False))
    assert {finding.level for finding in missing} == {WARN, FAIL}
    assert all("apt-get install" in finding.mend for finding in missing)
