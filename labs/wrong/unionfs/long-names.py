"""Absolute names of the layers: a hundred of them do not fit into a page."""

# check: many
# expect: mount\(2\) to take 80 layers
from collections.abc import Sequence
from pathlib import Path

from minidock import steps


class OverlayDriver:
    def mount(self, chains: Sequence[str], container_dir: Path) -> Path:
        target = container_dir / "rootfs"
        upper, work = container_dir / "upper", container_dir / "work"
        for path in (target, upper, work):
            path.mkdir(mode=0o755, exist_ok=True)
        lower = ":".join(str(self.root / self.directory(chain)) for chain in reversed(chains))
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        with steps.step("mount the layers") as step:
            self._mount_here(target, options)
            step.undo(self.unmount, container_dir)
        return target
