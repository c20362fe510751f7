"""Upper and work directory in each other's place: it works, but what was written is nowhere."""

# check: own_layer
# expect: it says A /work
from collections.abc import Sequence
from pathlib import Path

from minidock import steps


class OverlayDriver:
    def mount(self, chains: Sequence[str], container_dir: Path) -> Path:
        target = container_dir / "rootfs"
        work, upper = container_dir / "upper", container_dir / "work"
        for path in (target, upper, work):
            path.mkdir(mode=0o755, exist_ok=True)
        lower = ":".join(self.directory(chain) for chain in reversed(chains))
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        with steps.step("mount the layers") as step:
            self._mount_here(target, options)
            step.undo(self.unmount, container_dir)
        return target
