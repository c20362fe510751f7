"""The loom: prints chunks of the engine in chapters, and sees to it that each is printed once.

A Sphinx extension. In a chapter,

    ```{chunk} minidock/rootfs.py "pivot_root"
    ```

prints that chunk with its file and line numbers. The build warns (and with
``-W`` fails) about

- a chunk that no chapter prints, or two do,
- a title that the module does not have, a module that does not exist,
- two chunks of one title in a module,
- engine code that somebody typed into a chapter by hand.

**Interface:** :func:`setup`; :func:`problems` and :func:`typed_by_hand`, which the tests try on
seeded faults.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from tools.chunks import Chunk, DuplicateTitle, modules

ROOT = Path(__file__).parent.parent

logger = logging.getLogger(__name__)

Use = tuple[str, str, str, int]  # module, title, chapter, line


# %% What the tree says
def engine(root: Path = ROOT) -> dict[str, list[Chunk]]:
    """The engine's chunks; a duplicate title is reported by :func:`check`."""
    return modules(root)


def problems(chunks: dict[str, list[Chunk]], uses: Iterable[Use]) -> list[str]:
    """What is wrong: chunks that are shown not once, and shown chunks that are not."""
    known = {(path, chunk.title) for path, found in chunks.items() for chunk in found}
    shown: dict[tuple[str, str], list[str]] = {}
    found = []
    for path, title, chapter, line in uses:
        if (path, title) not in known:
            found.append(f"{chapter}:{line}: {path} has no chunk {title!r}")
        shown.setdefault((path, title), []).append(f"{chapter}:{line}")
    for path, title in sorted(known):
        places = shown.get((path, title), [])
        if not places:
            found.append(f"{path}: chunk {title!r} stands in no chapter")
        elif len(places) > 1:
            found.append(
                f"{path}: chunk {title!r} stands in {len(places)} places: {', '.join(places)}"
            )
    return found


_FENCE = re.compile(r"^```(?:python|py|\{code-block\} python)?[^\n{]*\n(.*?)^```", re.M | re.S)


def typed_by_hand(text: str, chunks: dict[str, list[Chunk]], least: int = 3) -> list[str]:
    """Runs of ``least`` lines in code fences of ``text`` that are lines of the engine."""
    windows: dict[tuple[str, ...], str] = {}
    for path, found in chunks.items():
        for chunk in found:
            lines = [line.strip() for line in chunk.text.splitlines() if len(line.strip()) > 8]
            for start in range(len(lines) - least + 1):
                windows[tuple(lines[start : start + least])] = path
    result = []
    for fence in _FENCE.findall(text):
        lines = [line.strip() for line in fence.splitlines() if len(line.strip()) > 8]
        for start in range(len(lines) - least + 1):
            module = windows.get(tuple(lines[start : start + least]))
            if module is not None:
                result.append(f"lines of {module} are typed by hand: {lines[start]!r}")
                break
    return result


# %% The directive
class ChunkDirective(SphinxDirective):
    """``{chunk} PATH "TITLE"``."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = False
    option_spec = {"language": directives.unchanged}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        """The chunk as a literal block, with a caption that says where it is from."""
        path, title = self._names()
        uses: list[Use] = self.env.chunk_uses  # type: ignore[attr-defined]
        uses.append((path, title, self.env.docname, self.lineno))
        self.env.note_dependency(str(ROOT / path))
        chunk = next((one for one in _chunks(self.env).get(path, []) if one.title == title), None)
        if chunk is None:
            return []  # check() says so
        code = nodes.literal_block(chunk.text, chunk.text, language="python")
        code["linenos"] = True
        code["highlight_args"] = {"linenostart": chunk.first}
        caption = f"{path}, lines {chunk.first} to {chunk.last}"
        if title != "prelude":
            caption += f": {title}"
        container = nodes.container("", literal_block=True, classes=["literal-block-wrapper"])
        container += nodes.caption(caption, caption)
        container += code
        return [container]

    def _names(self) -> tuple[str, str]:
        match = _ARGUMENT.match(self.arguments[0])
        if match is None:
            return self.arguments[0], "prelude"
        return match["path"], match["title"] or "prelude"


_ARGUMENT = re.compile(r'(?P<path>\S+)(?:\s+"?(?P<title>.*?)"?)?\s*\Z')


def _chunks(env: BuildEnvironment) -> dict[str, list[Chunk]]:
    if not hasattr(env, "engine_chunks"):
        env.engine_chunks = engine()  # type: ignore[attr-defined]
    return dict(env.engine_chunks)  # type: ignore[attr-defined]


# %% When Sphinx asks
def prepare(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Every build reads everything: a chunk may have moved without its chapter."""
    env.chunk_uses = []  # type: ignore[attr-defined]
    docnames[:] = sorted(env.found_docs)
    try:
        env.engine_chunks = engine()  # type: ignore[attr-defined]
    except DuplicateTitle as error:
        logger.warning("%s", error)
        env.engine_chunks = {}  # type: ignore[attr-defined]


def check(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn about all that is wrong."""
    uses: list[Use] = env.chunk_uses  # type: ignore[attr-defined]
    for problem in problems(_chunks(env), uses):
        logger.warning("%s", problem)
    for docname in sorted(env.found_docs):
        for problem in typed_by_hand(Path(env.doc2path(docname)).read_text(), _chunks(env)):
            logger.warning("%s: %s", docname, problem)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("chunk", ChunkDirective)
    app.connect("env-before-read-docs", prepare)
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": False, "version": "1"}
