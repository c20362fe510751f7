"""Takes version 1's shares for version 2's weight."""

# check: processor
# expect: cpu.weight says 512
from minidock.cgroups.v2 import _or_max
from minidock.spec.runtime import CPU


class V2Cgroup:
    def _limit_cpu(self, cpu: CPU) -> None:
        if cpu.shares:
            self._set("cpu.weight", str(cpu.shares), "a processor weight")
        if cpu.quota is not None or cpu.period is not None:
            quota = _or_max(cpu.quota if cpu.quota else -1)
            self._set("cpu.max", f"{quota} {cpu.period or 100000}", "a processor limit")
        for name, text in (("cpus", cpu.cpus), ("mems", cpu.mems)):
            if text:
                self._set(f"cpuset.{name}", text, f"--cpuset-{name}")
