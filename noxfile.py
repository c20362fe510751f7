"""The project's sessions: ``nox`` runs those that a change must pass, ``nox -s NAME`` one of them.

They use the virtual environment that ``./setup`` has made (``venv_backend
none``): one environment that is installed once, the same for every session
and for the student's shell.
"""

import os
import sys
from pathlib import Path

import nox

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "imports", "book", "tests"]

SOURCES = ["minidock", "labs", "tests", "tools", "noxfile.py"]


def run(session: nox.Session, program: str, *arguments: str) -> None:
    """A program of the environment that nox itself runs in."""
    session.run(str(BIN / program), *arguments, env={**os.environ}, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Style: ruff and codespell."""
    run(session, "ruff", "check", *SOURCES)
    run(session, "ruff", "format", "--check", *SOURCES)
    run(session, "codespell", "minidock", "labs", "tests", "tools", "chapters", "docs", "README.md")


@nox.session
def types(session: nox.Session) -> None:
    """Types: mypy, strictly."""
    run(session, "mypy")


@nox.session
def imports(session: nox.Session) -> None:
    """Layers: who may import whom."""
    run(session, "lint-imports")


@nox.session
def book(session: nox.Session) -> None:
    """The book: every chunk once, no warning."""
    target = HERE / "chapters" / "_build" / "html"
    run(session, "sphinx-build", "-W", "-q", "--keep-going", "-b", "html", "chapters", str(target))


@nox.session
def tests(session: nox.Session) -> None:
    """Tests on the real kernel (as root), the book's transcripts, and the leak check."""
    report = ["--junitxml=reports/host.xml", "-o", "junit_family=xunit1"]
    run(session, "pytest", *(session.posargs or report))


@nox.session
def box(session: nox.Session) -> None:
    """The VM's box, from Debian packages alone; -- --fresh builds it though it is there."""
    session.run("./setup", "--vm", external=True)
    run(session, "python", "-m", "tools.vm", "box", *session.posargs)


@nox.session
def vm(session: nox.Session) -> None:
    """The tests in the VM; -- --smoke only those that the host could not run; -- --by qemu."""
    session.run("./setup", "--vm", external=True)
    run(session, "python", "-m", "tools.vm", "test", *session.posargs)


@nox.session
def labs(session: nox.Session) -> None:
    """The labs' graders: stubs fail, the engine passes, wrong answers hear why (part of tests)."""
    run(session, "pytest", "tests/labs", "tests/unit/labs", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Hostile archives, for some minutes (an argument says how many; 5 without)."""
    os.environ["MINIDOCK_FUZZ_MINUTES"] = session.posargs[0] if session.posargs else "5"
    run(session, "pytest", "-s", "tests/integration/unionfs/test_fuzz.py")


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmarks, side by side with dockerd where it is installed."""
    run(session, "python", "-m", "tests.bench", *session.posargs)
    run(session, "python", "-m", "tests.bench.transfers", *session.posargs)
    run(session, "python", "-m", "tests.bench.registry", *session.posargs)
    run(session, "python", "-m", "tests.bench.runtime", *session.posargs)


@nox.session
def distribution(session: nox.Session) -> None:
    """The OCI distribution suite against our registry and Debian's: nox -s distribution -- SUITE."""
    run(session, "python", "-m", "tests.conformance.distribution_suite", *session.posargs)


@nox.session
def suites(session: nox.Session) -> None:
    """Other people's suites of OCI runtimes: ``nox -s suites -- PATH…`` (checkouts that are built)."""
    run(session, "python", "-m", "tests.conformance.suites", *session.posargs)
