"""``nox -s bench``: our runtime beside runc and crun, each running ``true`` in the same bundle.

Machines are noisy, so the runtimes take turns, and what counts is the ratio
of the medians. Run it as root: ``python -m tests.bench.runtime [ROUNDS]``.
"""

import compileall
import json
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.__main__ import timed
from tests.conformance.suites import runtimes

TARGET = 2.2  # times runc's wall time


# %% The bundle
def make_bundle(directory: Path, program: str) -> None:
    """Busybox, and what ``spec`` writes, without a terminal."""
    (directory / "rootfs/bin").mkdir(parents=True)
    for name in ("proc", "dev", "sys"):
        (directory / "rootfs" / name).mkdir()
    shutil.copy("/bin/busybox", directory / "rootfs/bin/true")
    subprocess.run([program, "spec"], cwd=directory, check=True)
    config = json.loads((directory / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": ["true"]}
    (directory / "config.json").write_text(json.dumps(config))


def works(bundle: str, program: str) -> bool:
    """crun refuses hosts with cgroups of both versions: what fails at once would seem fast."""
    command = [program, "run", f"mdb{secrets.token_hex(4)}"]
    done = subprocess.run(
        command, cwd=bundle, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return done.returncode == 0


# %% The benchmark
def main(rounds: int) -> int:
    """Print medians and ratios; 1 if ours is slower than it may be."""
    compileall.compile_dir("minidock", quiet=1)  # as an installation would be
    with (
        tempfile.TemporaryDirectory(prefix="md-bench-", dir="/var/lib") as name,
        runtimes([]) as known,
    ):
        make_bundle(Path(name), known["minidock"])
        known = {one: program for one, program in known.items() if works(name, program)}
        times: dict[str, list[float]] = {one: [] for one in known}
        for _ in range(rounds):
            for one, program in known.items():
                command = [program, "run", f"mdb{secrets.token_hex(4)}"]

                def run(command: list[str] = command) -> None:
                    subprocess.run(
                        command,
                        cwd=name,
                        stdin=subprocess.DEVNULL,
                        capture_output=True,
                        check=False,
                    )

                times[one].append(timed(run))
    medians = {one: statistics.median(kept) * 1000 for one, kept in times.items()}
    for one, median in medians.items():
        print(f"run true, {one:26} {median:9.1f} ms")
    if "runc" not in medians:
        return 0
    ratio = medians["minidock"] / medians["runc"]
    good = ratio <= TARGET
    print(
        f"{'minidock-runtime / runc':36} {ratio:9.2f} (at most {TARGET}) {'ok' if good else 'TOO SLOW'}"
    )
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 15))
