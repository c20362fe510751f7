"""Base images without the internet: from the packages of Debian.

An image has to begin somewhere. Everybody else's begins with a download
from a registry; ours with Debian's own tools: ``mmdebstrap`` puts together a
root file system from packages, ``busybox-static`` is a whole system in one
file. What comes out is an OCI archive like anybody's.

The trap is to be reproducible: the times in the archive and in the
configuration are fixed, the entries sorted, so that the same packages give
the same image id.

**Interface:** :func:`make`, :data:`RECIPES`.

**See:** mmdebstrap(1), busybox(1), debootstrap(8).
"""

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minidock.errors import InvalidParameter, Unavailable
from minidock.paths import Paths
from minidock.spec import image as oci

CREATED = "2024-01-01T00:00:00Z"
EPOCH = 1704067200  # the same moment, in seconds
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


# %% Making an image
def make(name: str, out: Path) -> None:
    """Write the base image ``name`` to ``out``, as an OCI archive.

    It is made once and kept in ``<root>/bootstrap``. Raises
    :class:`InvalidParameter` for a name without a recipe, and
    :class:`Unavailable` when a tool is missing.
    """
    full = name if ":" in name else f"{name}:{DEFAULT_TAGS.get(name, 'latest')}"
    recipe = RECIPES.get(full)
    if recipe is None:
        known = ", ".join(RECIPES)
        raise InvalidParameter(f"no recipe for {name!r} (there are {known})")
    kept = Paths.from_environment().root / "bootstrap" / f"{full.replace(':', '-')}.tar"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as work:
            rootfs = Path(work) / "rootfs.tar"
            command = recipe(rootfs)
            archive = Path(work) / "image.tar"
            write_archive(full, rootfs, command, archive)
            os.rename(archive, kept)
    shutil.copyfile(kept, out)


def _need(program: str, package: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise Unavailable(f"{program} is not installed: apt-get install {package}")
    return found


# %% Debian
def _debian(out: Path) -> list[str]:
    """The ``minbase`` of Debian 12, from the mirrors that this host uses, without what a container
    has no use for (documentation, translations, package lists)."""
    program = _need("mmdebstrap", "mmdebstrap")
    leave_out = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*")
    command = [program, "--variant=minbase", "--format=tar", "--quiet"]
    command += [f"--dpkgopt=path-exclude={path}" for path in leave_out]
    command += ["--include=ca-certificates,iproute2,procps", "--mode=root"]
    command += ["--customize-hook=rm -rf $1/var/lib/apt/lists/* $1/var/cache/apt/*.bin"]
    command += [f"--customize-hook=copy-in {path} /etc/apt/" for path in _apt_settings()]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
    done = subprocess.run(
        [*command, "bookworm", str(out), *mirrors()],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Unavailable(f"mmdebstrap failed: {last}")
    return ["bash"]


def mirrors() -> list[str]:
    """The host's own sources of Debian 12, for mmdebstrap; none: it takes Debian's usual mirror."""
    files = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*.list")]
    files += Path("/etc/apt/sources.list.d").glob("*.sources")
    suite = re.compile(r"(?<![-\w])bookworm")  # not another archive's "something-bookworm"
    return [str(path) for path in files if path.exists() and suite.search(path.read_text())]


def _apt_settings() -> list[str]:
    """How the host's apt reaches its mirror (a proxy): the container's will, too."""
    folder = Path("/etc/apt/apt.conf.d")
    if any("Proxy" in path.read_text(errors="replace") for path in folder.glob("*")):
        return [str(folder)]
    return []


# %% Busybox
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
    "etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    "etc/shadow": "root:*:19000::::::\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}


def _busybox(out: Path) -> list[str]:
    """One program under three hundred names."""
    program = _need("busybox", "busybox-static")
    names = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as archive:
        for path, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777)):
            _add(archive, path, tarfile.DIRTYPE, mode)
        for path in ("dev", "home", "proc", "sys", "usr", "usr/bin", "usr/sbin", "sbin", "var"):
            _add(archive, path, tarfile.DIRTYPE, 0o755)
        _add(archive, "bin/busybox", tarfile.REGTYPE, 0o755, Path(program).read_bytes())
        for name in sorted(set(names.split()) - {"busybox"}):
            _add(archive, f"bin/{name}", tarfile.LNKTYPE, 0o755, link="bin/busybox")
        _add(archive, "usr/bin/env", tarfile.SYMTYPE, 0o777, link="../../bin/env")
        for path, text in _FILES.items():
            _add(archive, path, tarfile.REGTYPE, 0o644, text.encode())
    return ["sh"]


def _add(
    archive: tarfile.TarFile, path: str, kind: bytes, mode: int, data: bytes = b"", link: str = ""
) -> None:
    member = tarfile.TarInfo(path)
    member.type, member.mode, member.size, member.linkname = kind, mode, len(data), link
    member.mtime = EPOCH
    archive.addfile(member, io.BytesIO(data))


# %% The recipes
RECIPES: dict[str, Callable[[Path], list[str]]] = {
    "debian:bookworm": _debian,
    "busybox:latest": _busybox,
}

DEFAULT_TAGS = {"debian": "bookworm"}


# %% An OCI archive
def write_archive(name: str, rootfs: Path, command: list[str], out: Path) -> None:
    """Layer, configuration, manifest, index: an image layout in a tar."""
    compressed = rootfs.with_suffix(".gz")
    diff_id = _compress(rootfs, compressed)
    config = {
        "created": CREATED,
        "architecture": oci.architecture(),
        "os": "linux",
        "config": {"Env": [PATH], "Cmd": command},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": CREATED, "created_by": f"minidock bootstrap {name}"}],
    }
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as archive:
        layer = _add_file(archive, compressed, oci.LAYER + "+gzip")
        described = _add_json(archive, config, oci.CONFIG)
        manifest = {
            "schemaVersion": 2,
            "mediaType": oci.MANIFEST,
            "config": described,
            "layers": [layer],
        }
        entry = _add_json(archive, manifest, oci.MANIFEST)
        entry["annotations"] = {
            oci.REF_NAME: name,
            "io.containerd.image.name": f"docker.io/library/{name}",
        }
        index = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": [entry]}
        _add(archive, "index.json", tarfile.REGTYPE, 0o644, json.dumps(index).encode())
        _add(archive, "oci-layout", tarfile.REGTYPE, 0o644, b'{"imageLayoutVersion": "1.0.0"}')
        docker = [
            {
                "Config": f"blobs/{described['digest'].replace(':', '/')}",
                "RepoTags": [name],
                "Layers": [f"blobs/{layer['digest'].replace(':', '/')}"],
            }
        ]
        _add(archive, "manifest.json", tarfile.REGTYPE, 0o644, json.dumps(docker).encode())


def _compress(source: Path, target: Path) -> str:
    """gzip without a time in it; returns the digest of what is inside."""
    digest = hashlib.sha256()
    with (
        open(source, "rb") as plain,
        open(target, "wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
    ):
        while data := plain.read(1 << 20):
            digest.update(data)
            packed.write(data)
    return f"sha256:{digest.hexdigest()}"


def _add_file(archive: tarfile.TarFile, path: Path, media_type: str) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        member = tarfile.TarInfo(f"blobs/sha256/{digest}")
        member.size, member.mtime, member.mode = path.stat().st_size, EPOCH, 0o644
        archive.addfile(member, file)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": member.size}


def _add_json(archive: tarfile.TarFile, value: dict[str, Any], media_type: str) -> dict[str, Any]:
    data = json.dumps(value).encode()
    digest = hashlib.sha256(data).hexdigest()
    _add(archive, f"blobs/sha256/{digest}", tarfile.REGTYPE, 0o644, data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}
