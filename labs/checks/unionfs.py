"""Lab ``unionfs``: layers on top of each other, and what each of them takes away."""

import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from labs.bench import Bench, expect, mounts

Layer = dict[str, str]


# %% Images to order
def image(bench: Bench, name: str, layers: Sequence[Layer]) -> None:
    """Load an image of ``layers`` (lowest first; path to content) on top of one with busybox."""
    machine = os.uname().machine
    packed = [_base(), *(_pack(layer) for layer in layers)]
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine),
        "os": "linux",
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(data) for data in packed]},
    }
    names = [f"{number}/layer.tar" for number in range(len(packed))]
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": names}]
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for path, data in zip(names, packed, strict=True):
                _add(archive, path, data)
            _add(archive, "config.json", json.dumps(config).encode())
            _add(archive, "manifest.json", json.dumps(manifest).encode())
        file.flush()
        bench.minidock("load", "-q", "-i", file.name)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _add(archive: tarfile.TarFile, path: str, data: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(path)
    member.size, member.mode = len(data), mode
    archive.addfile(member, io.BytesIO(data))


def _base() -> bytes:
    """A layer with busybox, under the names that the checks use."""
    buffer = io.BytesIO()
    program = shutil.which("busybox") or "/bin/busybox"
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        _add(archive, "bin/busybox", Path(program).read_bytes(), 0o755)
        for name in ("sh", "cat", "ls", "rm", "sleep", "true"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    return buffer.getvalue()


def _pack(layer: Layer) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in layer.items():
            _add(archive, path, content.encode())
    return buffer.getvalue()


# %% Order, and the container's own layer
def order(bench: Bench) -> None:
    """The topmost layer that has a file wins."""
    names = ("lowest", "middle", "topmost")
    image(bench, "order", [{"which": name, f"only-{name}": name} for name in names])
    box = Made(bench, "order")
    seen = box.cat("/which")
    expect(
        seen == "topmost",
        "the file of the topmost layer",
        f"read(2) says that it is the {seen} one's: chains come lowest first, lowerdir= wants the topmost first",
    )
    for name in names:
        seen = box.cat(f"/only-{name}")
        expect(seen == name, f"the file that only the {name} layer has", f"cat says {seen!r}")


class Made:
    """A running container of an image that was made to order."""

    def __init__(self, bench: Bench, name: str) -> None:
        self._bench = bench
        self.id = bench.minidock("run", "-d", name, "sleep", "1000000")

    def cat(self, path: str) -> str:
        """A file's content."""
        return self.sh(f"cat {path}")

    def sh(self, line: str) -> str:
        """What a line prints, its errors too."""
        done = self._bench.attempt("exec", self.id, "sh", "-c", line)
        return (done.out + done.err).strip()


def own_layer(bench: Bench) -> None:
    """What a container writes is its own, and diff tells what it was."""
    image(bench, "own", [{"kept": "old", "doomed": "old"}])
    box = Made(bench, "own")
    said = box.sh("echo new > /kept && rm /doomed && echo more > /added")
    expect(not said, "the container to be able to write", f"sh says: {said}")
    other = Made(bench, "own")
    seen = other.cat("/kept")
    expect(seen == "old", "another container of the image to see the old file", f"it sees {seen!r}")
    changes = bench.minidock("diff", box.id).splitlines()
    wanted = ["A /added", "C /kept", "D /doomed"]
    expect(
        set(wanted) <= set(changes),
        f"diff to say {', '.join(wanted)}",
        f"it says {', '.join(sorted(changes)) or 'nothing'}",
    )


# %% What a layer takes away
def deleted(bench: Bench) -> None:
    """A file that a layer deletes is gone, also when a higher layer brings one of that name back."""
    image(bench, "deleted", [{"a": "1", "b": "1"}, {".wh.a": "", ".wh.b": ""}, {"b": "2"}])
    box = Made(bench, "deleted")
    seen = box.sh("ls -d /a")
    expect("No such file" in seen, "/a to be gone", f"ls says: {seen}")
    expect(
        box.cat("/b") == "2", "/b to be the one of the third layer", f"cat says {box.cat('/b')!r}"
    )
    names = box.sh("ls -a /").split()
    odd = [name for name in names if name.startswith(".wh.")]
    expect(not odd, "no trace of the whiteout", f"ls -a / shows {' '.join(odd)}")
    image(bench, "both", [{"a": "1"}, {"a": "2", ".wh.a": ""}])
    seen = Made(bench, "both").sh("cat /a")
    expect(
        seen == "2",
        "a layer's own file to survive its whiteout of the same name",
        f"cat says {seen!r}",
    )


def opaque(bench: Bench) -> None:
    """Nothing shows through an opaque directory."""
    image(bench, "opaque", [{"d/old": "1", "e/old": "1"}, {"d/new": "2", "d/.wh..wh..opq": ""}])
    box = Made(bench, "opaque")
    names = box.sh("ls -a /d").split()[2:]
    expect(
        names == ["new"],
        "only the new file in /d",
        f"ls says {' '.join(names)}: the directory is not opaque to the kernel",
    )
    expect(box.cat("/e/old") == "1", "/e to be as it was", f"cat says {box.cat('/e/old')!r}")


# %% Many layers, one page
LAYERS = 80


def many(bench: Bench) -> None:
    """Eighty layers fit, and the daemon stays in its directory."""
    image(bench, "many", [{f"file-{number}": str(number)} for number in range(LAYERS)])
    done = bench.attempt("run", "-d", "many", "sleep", "1000000")
    expect(
        done.status == 0,
        f"mount(2) to take {LAYERS} layers: options of less than one page (4096 bytes)",
        f"minidock says: {done.last[:300]}",
    )
    pid = Path(os.environ["MINIDOCK_RUN"], "minidock.pid").read_text().strip()
    now = os.readlink(f"/proc/{pid}/cwd")
    expect(
        not now.startswith(os.environ["MINIDOCK_ROOT"]),
        "the daemon to stay in the directory that it was started in",
        f"/proc/{pid}/cwd says {now}: the current directory belongs to all its threads",
    )


def _trees() -> list[str]:
    """The containers' trees that are mounted now."""
    ours = os.environ["MINIDOCK_ROOT"]
    return [
        line[4] for line in mounts() if line[4].startswith(ours) and line[4].endswith("/rootfs")
    ]


def undone(bench: Bench) -> None:
    """A start that fails leaves no mount."""
    bench.attempt("run", "-d", "--name", "failing", "busybox", "/no/such/program")
    left = _trees()
    expect(
        not left,
        "no overlay mounted after a start that failed",
        f"mountinfo still has {', '.join(left)}: the step has registered no undo",
    )
    box = bench.box()
    here = any(box.id in path for path in _trees())
    expect(here, "the container's tree at its rootfs", "mountinfo does not have it")
    bench.minidock("rm", "-f", box.id)
    left = _trees()
    expect(not left, "no overlay mounted after rm", f"mountinfo still has {', '.join(left)}")
