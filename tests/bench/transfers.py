"""How long pulls and pushes take, against Docker, with Debian's docker-registry on loopback.

Every image is pulled and pushed once only, so that nothing is there already: for each round there is
another one, with a file more. Docker's daemon lives in a network namespace of its own, so there is a
registry process on both loopbacks, over one directory. ``sync`` before each, the sides take turns at
being first, and what counts is the ratio of the medians. As other work on the machine distorts times,
the processor time that each daemon took is shown beside them. Where the machine cannot be had alone,
``BENCH_REALTIME=1`` runs both sides ahead of everything else (sched(7), ``SCHED_RR``).

Run it alone, as root: ``python -m tests.bench.transfers [ROUNDS [DIRECTORY]]``.
"""

import contextlib
import hashlib
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from minidock.images import bootstrap
from minidock.spec.image import architecture
from tests.bench.loading import rootfs
from tests.bench.sides import Side, docker, minidock

TARGETS = {
    "pull debian": 0.5,
    "pull debian in ten layers": 0.5,
    "push debian, gzip": 0.2,
    "push debian, plain": 0.2,
}


# %% A registry on two loopbacks
@contextlib.contextmanager
def registry(directory: Path, namespaces: list[str]) -> Iterator[str]:
    """One directory, one port, one process in each network namespace."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    config = directory / f"registry-{port}.json"
    storage = {"filesystem": {"rootdirectory": str(directory / f"registry-{port}")}}
    log = {"level": "error", "accesslog": {"disabled": True}}
    http = {"addr": f"127.0.0.1:{port}"}
    config.write_text(json.dumps({"version": 0.1, "log": log, "storage": storage, "http": http}))
    running = [
        subprocess.Popen(
            ["nsenter", f"--net={where}", "docker-registry", "serve", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for where in namespaces
    ]
    try:
        time.sleep(1)
        yield f"127.0.0.1:{port}"
    finally:
        for process in running:
            process.terminate()
            process.wait(10)


# %% Images
def vary(plain: Path, token: str) -> Path:
    """The same with a file more."""
    with tarfile.open(plain, "a") as target:
        target.addfile(tarfile.TarInfo(f"variant-{token}"))
    return plain


def saved(name: str, layers: list[Path], out: Path, gzipped: bool = False) -> Path:
    """As ``docker save`` writes it, with plain layers; or with such as a registry has."""
    diff_ids = []
    with tarfile.open(out, "w") as archive:
        for number, layer in enumerate(layers):
            with open(layer, "rb") as file:
                diff_ids.append(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")
            if gzipped:  # as Docker's push would: one member, the usual level
                subprocess.run(["gzip", "-kf6n", layer], check=True)
            archive.add(f"{layer}.gz" if gzipped else layer, f"{number}/layer.tar")
        config = {
            "architecture": architecture(),
            "os": "linux",
            "config": {"Cmd": ["bash"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        paths = [f"{number}/layer.tar" for number in range(len(layers))]
        manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": paths}]
        for path, value in (("config.json", config), ("manifest.json", manifest)):
            data = json.dumps(value).encode()
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out


def split(plain: Path, count: int, token: str) -> list[Path]:
    """Its files dealt out to ``count`` tars, each with the directories that they are in, as layers have."""
    paths = [plain.with_suffix(f".{number}") for number in range(count)]
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(tarfile.open(plain))
        targets = [stack.enter_context(tarfile.open(path, "w")) for path in paths]
        there: list[set[str]] = [set() for _ in targets]
        for target in targets:
            target.addfile(tarfile.TarInfo(f"variant-{token}"))
        directories = {one.name.strip("./"): one for one in source if one.isdir()}
        for number, member in enumerate(one for one in source if one.isreg()):
            index = number % count
            above = [str(one) for one in Path(member.name.removeprefix("./")).parents][-2::-1]
            for name in above:
                if name not in there[index] and name in directories:
                    there[index].add(name)
                    targets[index].addfile(directories[name])
            targets[index].addfile(member, source.extractfile(member))
    return paths


# %% Measuring
def measure(
    title: str,
    sides: list[Side],
    pids: list[int],
    rounds: int,
    command: str,
    names: list[list[str]],
) -> bool:
    """``command`` for each side's image of each round; the first round warms up."""
    times: list[list[float]] = [[] for _ in sides]
    spent: list[list[float]] = [[] for _ in sides]
    for number in range(rounds + 1):
        order = list(range(len(sides)))
        for index in order if number % 2 else order[::-1]:
            os.sync()
            before, begun = _spent(pids[index]), time.perf_counter()
            sides[index].run(command, names[index][number])
            if number:
                times[index].append(time.perf_counter() - begun)
                spent[index].append(_spent(pids[index]) - before)
    return _report(title, times, spent)


def _spent(pid: int) -> float:
    """Seconds of processor time that a daemon and what it has started have had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _report(title: str, times: list[list[float]], spent: list[list[float]]) -> bool:
    medians = [statistics.median(kept) * 1000 for kept in times]
    processor = [statistics.median(kept) * 1000 for kept in spent]
    if len(times) < 2:
        print(f"{title:26} {medians[0]:7.0f} ms, processor {processor[0]:7.0f} ms", flush=True)
        return True
    ratio, target = medians[0] / medians[1], TARGETS[title]
    cores = statistics.median(s / t for s, t in zip(spent[0], times[0], strict=True))
    print(
        f"{title:26} {medians[0]:7.0f} ms {medians[1]:7.0f} ms  ratio {ratio:4.2f} (at most {target})"
        f" {'ok' if ratio <= target else 'TOO SLOW'}; best {min(times[0]) / min(times[1]):4.2f};"
        f" processor {processor[0]:5.0f} ms {processor[1]:5.0f} ms, ratio"
        f" {processor[0] / processor[1]:4.2f}; our cores {cores:4.2f}",
        flush=True,
    )
    return ratio <= target


# %% The four
@dataclass(frozen=True, slots=True)
class Bench:
    """What all of them need."""

    sides: list[Side]
    pids: list[int]
    plain: Path
    rounds: int

    def pulls(self, host: str, ten: bool) -> bool:
        """Images that a third engine has pushed there; both sides pull the same ones."""
        kind = "ten" if ten else "one"
        names = [f"{host}/{kind}:{number}" for number in range(self.rounds + 1)]
        with (
            tempfile.TemporaryDirectory(prefix="minidock-bench-", dir=self.plain.parent) as top,
            minidock(Path(top)) as third,
        ):
            for name in names:
                vary(self.plain, f"{kind}{name}")
                layers = split(self.plain, 10, name) if ten else [self.plain]
                out = saved(name, layers, Path(top) / "image.tar", gzipped=True)
                third.run("load", "-i", str(out))
                third.run("push", name)
        title = "pull debian in ten layers" if ten else "pull debian"
        each = [names for _ in self.sides]
        return measure(title, self.sides, self.pids, self.rounds, "pull", each)

    def pushes(self, host: str, gzipped: bool) -> bool:
        """Images that both sides have loaded, with their layers compressed or not."""
        kind = "gzip" if gzipped else "plain"
        names = [
            [f"{host}/{kind}-{side}-{number}:1" for number in range(self.rounds + 1)]
            for side in range(len(self.sides))
        ]
        out = self.plain.with_suffix(".tar")
        for number in range(self.rounds + 1):
            vary(self.plain, f"push-{kind}{number}")
            if gzipped:
                bootstrap.write_archive("bench:1", self.plain, ["bash"], out)
            else:
                saved("bench:1", [self.plain], out)
            for index, side in enumerate(self.sides):
                side.run("load", "-i", str(out))
                side.run("tag", "bench:1", names[index][number])
        title = f"push debian, {kind}"
        return measure(title, self.sides, self.pids, self.rounds, "push", names)


def compare(sides: list[Side], directory: Path, archive: Path, rounds: int) -> bool:
    """All of them; whether the targets are met."""
    files = ["run/minidock.pid", "docker.pid"][: len(sides)]
    pids = [int((directory / name).read_text()) for name in files]
    namespaces = ["/proc/self/ns/net", *(f"/proc/{pid}/ns/net" for pid in pids[1:])]
    bench = Bench(sides, pids, rootfs(archive), rounds)
    with registry(directory, namespaces) as full, registry(directory, namespaces) as empty:
        good = bench.pulls(full, ten=False)
        good &= bench.pulls(full, ten=True)
        good &= bench.pushes(empty, gzipped=True)
        return bench.pushes(empty, gzipped=False) and good


def main(rounds: int = 5, place: str = "/var/lib") -> int:
    """Only this; 1 if a target is missed."""
    if os.environ.get("BENCH_REALTIME"):  # inherited by all that we start
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    with tempfile.TemporaryDirectory(prefix="minidock-bench-", dir=place) as name:
        directory = Path(name)
        archive = directory / "debian.tar"
        bootstrap.make("debian", archive)
        with minidock(directory) as ours, docker(directory) as theirs:
            sides = [ours] if theirs is None else [ours, theirs]
            return 0 if compare(sides, directory, archive, rounds) else 1


if __name__ == "__main__":
    raise SystemExit(main(*map(int, sys.argv[1:2]), *sys.argv[2:3]))
