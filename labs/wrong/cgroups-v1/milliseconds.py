"""Takes the kernel's microseconds for milliseconds."""

# check: processor
# expect: (cpu.cfs_quota_us says 50$|'50' to .*cpu.cfs_quota_us: Invalid argument)
from minidock.cgroups import write
from minidock.spec.runtime import CPU


class V1Cgroup:
    def _limit_cpu(self, cpu: CPU) -> None:
        directory = self._directory("cpu", "a limit")
        if cpu.shares is not None:
            write(f"{directory}/cpu.shares", str(cpu.shares))
        if cpu.quota is not None:
            write(f"{directory}/cpu.cfs_quota_us", str(cpu.quota // 1000))
        for name, text in (("cpus", cpu.cpus), ("mems", cpu.mems)):
            if text:
                write(f"{self._directory('cpuset', 'a cpuset')}/cpuset.{name}", text)
