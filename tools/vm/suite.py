"""The test suite in the machine, and what it reports.

The smoke part is what the host could not do (every test that its report calls
skipped) and a few that show that the machine is well. The full part is
everything; between them lies "as much as there is time for", for CI.

**Interface:** :func:`prepare`, :class:`Part`, :func:`smoke`, :func:`rest`, :func:`everything`, :func:`run_tests`, :func:`compare`.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tools.vm import table
from tools.vm.machine import Machine
from tools.vm.recipe import TREE
from tools.vm.shell import say
from tools.vm.ssh import Ssh

REPORTS = TREE / "reports"
HOST, GUEST, REST = REPORTS / "host.xml", REPORTS / "vm.xml", REPORTS / "vm-rest.xml"
TABLE = REPORTS / "skipped.md"

# In seconds: how long a part may take; how long one test may take before pytest says where it hangs.
SMOKE, FULL, GRACE = 900, 3600, 300
INTERRUPTED = 2  # pytest's status when a session is told to stop

# What shows that the machine is well, whatever the host can do.
ALWAYS = """
    tests/integration/test_cgroups.py
    tests/integration/cgroup2
    tests/conformance/test_docker_cli.py::test_streams_are_kept_apart
    tests/book/test_transcripts.py::test_chapter[05-cgroups.md]
""".split()

# Instructions are translated: what takes a millisecond elsewhere takes twenty.
SLOWNESS = {"tcg": "20", "kvm": "2"}


# %% Which tests
@dataclass(frozen=True, slots=True)
class Part:
    """``names`` as pytest takes them (none: all); after ``seconds`` it stops, which is a failure or is not."""

    title: str
    names: list[str]
    seconds: int
    report: Path = GUEST
    may_stop: bool = False


def everything() -> Part:
    """All tests."""
    return Part("everything", [], FULL)


def smoke() -> Part:
    """What the host could not do, and what shows that the machine is well."""
    return Part("the smoke part", smoke_names(), SMOKE)


def rest(done: Part, seconds: float) -> Part:
    """What ``done`` has not run, as far as ``seconds`` go."""
    others = ["tests", *[f"--deselect={name}" for name in done.names]]
    return Part("the rest", others, int(seconds), REST, may_stop=True)


def smoke_names(host: Path = HOST) -> list[str]:
    """What the host's report calls skipped, and what is always run; as pytest wants it."""
    skipped: list[str] = []
    if host.exists():
        for name, reason in table.read(host).items():
            if reason is not None and not reason.startswith(table.NOT_IN_THE_TREE):
                skipped.append(name.partition(" (")[0])
    covered = tuple(name for name in ALWAYS if "::" not in name)
    more = [name for name in dict.fromkeys(skipped) if not name.startswith(covered)]
    return [*ALWAYS, *[name for name in more if name not in ALWAYS]]


# %% In the machine
def forget() -> None:
    """Delete the reports of an earlier run: they must not stand for this one."""
    REPORTS.mkdir(exist_ok=True)
    for report in (GUEST, REST, TABLE):
        report.unlink(missing_ok=True)


STEPS = ("packages", "kernel", "docker", "images", "doctor")


def prepare(one: Machine, ssh: Ssh, whole: bool) -> None:
    """The tree as it is here now, and the steps that a student's machine takes; all of them twice, if ``whole``."""
    ssh.send(TREE)
    for path in filter(None, os.environ.get("MINIDOCK_VM_SEND", "").split(":")):
        ssh.run(f"sudo install -d -o vagrant {path}")
        ssh.send(Path(path), path)
    for name in [*STEPS, "book", *STEPS, "book"] if whole else STEPS:
        say(f"step {name}")
        one.provision(name)


def run_tests(ssh: Ssh, part: Part, accelerator: str) -> bool:
    """Run a part of the tests there, with the report here; whether all that ran passed."""
    names = part.names
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(names) + "\n")
        file.flush()
        Path(file.name).chmod(0o644)
        ssh.put(Path(file.name), "/tmp/tests.txt")
    chosen = "@/tmp/tests.txt" if names else ""
    variables = f"MINIDOCK_SLOWNESS={SLOWNESS[accelerator]} MINIDOCK_LAB_PATIENCE=60"
    variables += f" MINIDOCK_TEST_SECONDS={part.seconds}"
    script = (
        f"cd /vagrant && sudo env {variables} .venv/bin/python -m pytest --durations=15 -rs -n 2 --dist loadfile {chosen}"
        f" --junitxml=/tmp/vm.xml -o junit_family=xunit1 -o faulthandler_timeout={GRACE}"
    )
    say(f"pytest in the machine: {part.title}, at most {part.seconds // 60} minutes")
    status = ssh.show(script, part.seconds + GRACE + 60)
    ssh.fetch("/tmp/vm.xml", part.report)
    return status == 0 or (part.may_stop and status == INTERRUPTED)


# %% Both runs
def compare() -> list[str]:
    """Write the table of what was skipped where; what has run nowhere."""
    if not HOST.exists():
        say("no report of the host's run (nox -s tests): no table")
        return []
    guest = table.read(GUEST)
    if REST.exists():
        guest = {**table.read(REST), **guest}
    found = table.compare(table.read(HOST), guest)
    TABLE.write_text(found.text())
    print(found.text())
    return found.nowhere
