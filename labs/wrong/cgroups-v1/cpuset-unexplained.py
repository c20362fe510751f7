"""Lets the kernel's error through, where the user's mistake should be named."""

# check: cpuset
# expect: (?s)“Requested cpus are not available”.*says: minidock: .*cpuset.cpus: (Numerical|Invalid)
from minidock.cgroups import write
from minidock.spec.runtime import CPU


class V1Cgroup:
    def _limit_cpu(self, cpu: CPU) -> None:
        scheduler = (
            ("shares", cpu.shares),
            ("cfs_period_us", cpu.period),
            ("cfs_quota_us", cpu.quota),
        )
        for name, number in scheduler:
            if number is not None:
                write(f"{self._directory('cpu', 'a limit')}/cpu.{name}", str(number))
        for name, text in (("cpus", cpu.cpus), ("mems", cpu.mems)):
            if text:
                write(f"{self._directory('cpuset', 'a cpuset')}/cpuset.{name}", text)
