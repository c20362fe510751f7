"""Quota and period in each other's files."""

# check: processor
# expect: 50000 stands in cpu.cfs_period_us
from minidock.cgroups import write
from minidock.spec.runtime import CPU


class V1Cgroup:
    def _limit_cpu(self, cpu: CPU) -> None:
        scheduler = (
            ("shares", cpu.shares),
            ("cfs_period_us", cpu.quota),
            ("cfs_quota_us", cpu.period),
        )
        for name, number in scheduler:
            if number is not None:
                write(f"{self._directory('cpu', 'a limit')}/cpu.{name}", str(number))
        for name, text in (("cpus", cpu.cpus), ("mems", cpu.mems)):
            if text:
                write(f"{self._directory('cpuset', 'a cpuset')}/cpuset.{name}", text)
