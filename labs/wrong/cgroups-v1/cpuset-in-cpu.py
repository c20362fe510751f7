"""Looks for the cpuset's files in the directory of the controller cpu."""

# check: cpuset
# expect: cpu/minidock/\S+/cpuset.cpus: No such file
from minidock.cgroups import write
from minidock.spec.runtime import CPU


class V1Cgroup:
    def _limit_cpu(self, cpu: CPU) -> None:
        directory = self._directory("cpu", "a limit")
        scheduler = (
            ("cpu.shares", cpu.shares),
            ("cpu.cfs_period_us", cpu.period),
            ("cpu.cfs_quota_us", cpu.quota),
            ("cpuset.cpus", cpu.cpus),
            ("cpuset.mems", cpu.mems),
        )
        for name, value in scheduler:
            if value:
                write(f"{directory}/{name}", str(value))
