"""Pictures of a real image, drawn by the book's build.

A Sphinx extension. In a chapter,

    ```{image-layers}
    first: bin/sh etc/motd=hello
    second: etc/.wh.motd etc/issue=new
    third:
    ```

makes an image with these layers, by the engine's own packing and papers, and
draws what came out: the manifest, the configuration and the layers, each
called by its digest. A line is one step of the history; what follows the
colon are files, with what is in them; a step without files has no layer.

The trap: a picture must be the same on every machine, so owners and times
are zero, and modes do not depend on the umask.

**Interface:** :func:`setup`; :func:`make` and :func:`draw`, which the tests try.
"""

import io
import os
import shlex
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.ext.graphviz import graphviz
from sphinx.util.docutils import SphinxDirective

from minidock.spec import image as oci
from minidock.spec.image import Descriptor, Execution, ImageConfig, Manifest, RootFS
from minidock.unionfs.pack import pack

CREATED = "2024-01-01T00:00:00Z"


# %% An image
@dataclass(frozen=True, slots=True)
class Step:
    """One line of the history, and the layer that came of it, if any."""

    title: str
    files: tuple[str, ...]
    diff_id: str


@dataclass(frozen=True, slots=True)
class Picture:
    """All that is drawn."""

    steps: tuple[Step, ...]
    chains: tuple[str, ...]
    config: str
    manifest: str


def make(lines: Iterable[str]) -> Picture:
    """The image that the lines describe."""
    steps, blobs = [], []
    for line in filter(str.strip, lines):
        title, _, rest = line.partition(":")
        files = dict(word.partition("=")[::2] for word in shlex.split(rest))
        data = layer(files) if files else b""
        steps.append(Step(title.strip(), (*files,), oci.digest_of(data) if files else ""))
        blobs += [Descriptor(oci.LAYER, oci.digest_of(data), len(data))] if files else []
    history = tuple(
        {
            "created": CREATED,
            "created_by": one.title,
            **({} if one.files else {"empty_layer": True}),
        }
        for one in steps
    )
    diff_ids = tuple(one.digest for one in blobs)
    rootfs, run = RootFS(diff_ids=diff_ids), Execution(cmd=("sh",))
    config = oci.encode_config(
        ImageConfig("amd64", "linux", CREATED, config=run, rootfs=rootfs, history=history)
    )
    named = Descriptor(oci.CONFIG, oci.digest_of(config), len(config))
    manifest = oci.encode_manifest(Manifest(2, named, tuple(blobs), oci.MANIFEST))
    return Picture(
        tuple(steps), tuple(oci.chain_ids(diff_ids)), named.digest, oci.digest_of(manifest)
    )


def layer(files: dict[str, str]) -> bytes:
    """A tree with ``files``, packed."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        for path, text in files.items():
            (top / path).parent.mkdir(parents=True, exist_ok=True)
            (top / path).write_text(text)
        for place in top.rglob("*"):
            place.chmod(0o755 if place.is_dir() else 0o644)
            os.utime(place, (0, 0))
        out = io.BytesIO()
        pack(top, out, _nobodys)
        return out.getvalue()


def _nobodys(
    member: tarfile.TarInfo, status: os.stat_result, path: Path
) -> Iterable[tarfile.TarInfo]:
    member.uid = member.gid = 0
    member.mtime = 0
    return (member,)


# %% A picture
STYLE = """digraph image {
    rankdir=LR; node [shape=box, fontname="sans-serif", fontsize=11];
    edge [fontname="sans-serif", fontsize=10];"""


def draw(picture: Picture) -> str:
    """As a graph for dot(1)."""
    lines = [STYLE]
    lines += [_box("manifest", "manifest", picture.manifest)]
    lines += [_box("config", "configuration: the id", picture.config)]
    lines += ['    manifest -> config [label="digest"];']
    chains = iter(enumerate(picture.chains))
    below = ""
    for number, step in enumerate(picture.steps):
        lines += [f'    step{number} [label="{step.title}", shape=plaintext];']
        lines += [f'    config -> step{number} [label="history", style=dotted];']
        if not step.files:
            continue
        place, chain = next(chains)
        content = "\\l".join(step.files) + "\\l"
        lines += [_box(f"layer{place}", f"diff_id {_short(step.diff_id)}\\n{content}chain", chain)]
        lines += [f'    step{number} -> layer{place} [label="its layer", style=dotted];']
        lines += [f'    {below} -> layer{place} [dir=back, label="lies on"];'] if below else []
        below = f"layer{place}"
    return "\n".join([*lines, "}"])


def _box(name: str, title: str, digest: str) -> str:
    return f'    {name} [label="{title} {_short(digest)}"];'


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12]


# %% The directive
class ImageLayers(SphinxDirective):
    """``{image-layers}``."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The picture, for graphviz."""
        node = graphviz()
        node["code"] = draw(make(self.content))
        node["options"] = {"docname": self.env.docname}
        node["alt"] = "The layers of an image that the build has made"
        return [node]


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    app.add_directive("image-layers", ImageLayers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
