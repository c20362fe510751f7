"""``minidock cp``.

**Interface:** :func:`run`.

What a copy means depends on what is there, and the rules are those of
``cp -a``: into a directory that exists, beside its own name; to a name that
does not exist, under that name; and ``SOURCE/.`` is what is *in* a
directory, not the directory.

The trap is the archive that comes from a container: what is in it was made
by a program that we do not trust, and we may be root
(:mod:`minidock.transfer` is careful).

**See:** docker/cli ``cli/command/container/cp.go``; moby ``pkg/archive/copy.go``.
"""

import base64
import json
import os
import sys
import tarfile
import tempfile
from typing import IO, Any, BinaryIO, cast
from urllib.parse import quote

from minidock.cli.flags import Flag, PlainError, Usage, need, parse
from minidock.client import Answer, Client
from minidock.errors import InvalidParameter, NotFound

FLAGS = [
    Flag("archive", "a", "bool", "Archive mode (copy all uid/gid information)"),
    Flag("follow-link", "L", "bool", "Always follow symbol link in SRC_PATH"),
    Flag("quiet", "q", "bool", "Suppress progress output during copy"),
]

SYNOPSIS = """\
[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-
\tminidock cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH"""

ABOUT = "Copy files/folders between a container and the local filesystem"

HELP = {"cp": Usage("cp", SYNOPSIS, ABOUT, FLAGS)}

GO_DIRECTORY, GO_LINK = 1 << 31, 1 << 27


# %% cp
def run(arguments: list[str]) -> int:
    """``minidock cp``, in one direction or the other."""
    values, rest = parse(arguments, FLAGS)
    need(rest, "cp", 2, 2)
    (source, source_path), (target, target_path) = (split(text) for text in rest)
    if source and target:
        raise PlainError("copying between containers is not supported")
    if not source and not target:
        raise PlainError("must specify at least one container source")
    client = Client.from_environment()
    if source:
        copy_out(client, source, source_path, target_path, values["follow-link"])
    else:
        copy_in(client, source_path, target, target_path, values)
    return 0


def split(text: str) -> tuple[str, str]:
    """Container and path; no container where the text is a path of ours."""
    container, colon, path = text.partition(":")
    if not colon or text.startswith("/") or container.startswith("."):
        return "", text
    return container, path


def _inside(path: str) -> str:
    """A path in a container is absolute, and a slash at its end means something."""
    return path if path.startswith("/") else f"/{path}"


def _stat(client: Client, container: str, path: str) -> dict[str, Any] | None:
    """What is there; None if nothing is."""
    try:
        answer = client.head(f"/containers/{container}/archive?path={quote(path, safe='')}")
    except NotFound:  # or there is no such container: then the next request says so
        return None
    return dict(json.loads(base64.b64decode(answer.headers["x-docker-container-path-stat"])))


# %% Out of a container
def copy_out(client: Client, container: str, path: str, target: str, follow: bool) -> None:
    """``CONTAINER:PATH`` to a path of ours, or as an archive to stdout."""
    path = _inside(path)
    if follow:
        known = _stat(client, container, path)
        if known is not None and known["mode"] & GO_LINK:
            path = os.path.join(os.path.dirname(path), known["linkTarget"])
    query = f"/containers/{container}/archive?path={quote(path, safe='')}"
    if target == "-":
        _to_stdout(client, query)
        return
    into = os.path.isdir(target)
    if not into and target.endswith("/"):
        raise PlainError(f"destination directory {target} must exist")
    if not os.path.isdir(os.path.dirname(os.path.abspath(target))):
        raise PlainError(
            f"invalid output path: directory {os.path.dirname(os.path.abspath(target))!r} does not exist"
        )
    _take_out(client.open("GET", query), target, into, only_content=path.endswith("/."))


def _take_out(answer: Answer, target: str, into: bool, only_content: bool) -> None:
    """Unpack; the first part of every member's name is what was asked for, or what it is to be called."""
    from minidock.transfer import PATH, unpack

    base, name = (target, None) if into else os.path.split(os.path.abspath(target))

    def rename(parts: list[str]) -> list[str]:
        below = parts if only_content else parts[1:]  # of `PATH/.` the first part is a dot
        first = [name] if name else [] if only_content else parts[:1]
        return [*first, *below]

    owner = os.geteuid(), os.getegid()
    root = os.open(base, PATH | os.O_DIRECTORY)
    try:
        archive = cast(BinaryIO, _Pieces(answer.pieces()))
        unpack(archive, root, keep_kind=True, rename=rename, owners=lambda *_: owner)
    except InvalidParameter as error:
        raise PlainError(str(error)) from None
    finally:
        os.close(root)


def _to_stdout(client: Client, query: str) -> None:
    if sys.stdout.isatty():
        raise PlainError("cowardly refusing to write a tar archive to a terminal")
    for piece in client.open("GET", query).pieces():
        sys.stdout.buffer.write(piece)


class _Pieces:
    """Pieces as a file."""

    def __init__(self, pieces: Any) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._rest += piece
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


# %% Into a container
def copy_in(client: Client, source: str, container: str, path: str, values: Any) -> None:
    """A path of ours, or an archive from stdin, to ``CONTAINER:PATH``."""
    path = _inside(path)
    known = _stat(client, container, path)
    if known is not None and known["mode"] & GO_LINK:  # a link to a directory is a directory
        known = _stat(client, container, f"{path.rstrip('/')}/.") or known
    is_directory = known is not None and bool(known["mode"] & GO_DIRECTORY)
    if source == "-":
        if not is_directory:
            raise PlainError(f'destination "{container}:{path}" must be a directory')
        _put(client, container, path, cast(BinaryIO, sys.stdin.buffer))
        return
    if not os.path.lexists(source):
        raise PlainError(f"lstat {os.path.abspath(source)}: no such file or directory")
    if not is_directory and path.endswith("/"):
        raise PlainError("no such directory")
    content = source.endswith("/.") or os.path.basename(source) == "."
    whole = os.path.isdir(source) and not (os.path.islink(source) and not values["follow-link"])
    if whole and known is not None and not is_directory:
        raise PlainError("cannot copy directory")
    name = os.path.basename(os.path.abspath(source))
    if is_directory:
        folder, name = path, "." if content else name
    else:
        folder, name = os.path.dirname(path.rstrip("/")) or "/", os.path.basename(path.rstrip("/"))
    with tempfile.TemporaryFile() as file:
        _archive(file, source, name, values)
        file.seek(0)
        _put(client, container, folder, cast(BinaryIO, file))


def _archive(file: IO[bytes], source: str, name: str, values: Any) -> None:
    """Owned by root in there, unless ``-a`` says that it keeps its owner."""

    def owned(member: tarfile.TarInfo) -> tarfile.TarInfo:
        if not values["archive"]:
            member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    path = os.path.realpath(source) if values["follow-link"] else source
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.add(path, name, filter=owned)


def _put(client: Client, container: str, folder: str, archive: BinaryIO) -> None:
    query = f"noOverwriteDirNonDir=true&path={quote(folder, safe='')}"
    client.open("PUT", f"/containers/{container}/archive?{query}", upload=archive).read()
