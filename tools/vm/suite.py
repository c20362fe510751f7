"""The test suite in the machine, and what it reports.

The smoke part is what the host could not do (every test that its report calls
skipped) and a few that show that the machine is well. The full part is
everything.

**Interface:** :func:`prepare`, :func:`run_tests`, :func:`smoke`.
"""

import os
import tempfile
from pathlib import Path

from tools.vm import table
from tools.vm.recipe import TREE
from tools.vm.shell import Failed, say
from tools.vm.ssh import Ssh

REPORTS = TREE / "reports"
HOST, GUEST = REPORTS / "host.xml", REPORTS / "vm.xml"
TABLE = REPORTS / "skipped.md"

# Each has a limit of its own, in seconds: what hangs is named, and the rest of the time is saved.
PREPARING, SMOKE, FULL = 300, 900, 3600

# What shows that the machine is well, whatever the host can do.
ALWAYS = """
    tests/integration/test_cgroups.py
    tests/integration/cgroup2
    tests/conformance/test_docker_cli.py::test_streams_are_kept_apart
    tests/book/test_transcripts.py::test_chapter[05-cgroups.md]
""".split()

# Instructions are translated: what takes a millisecond elsewhere takes twenty.
SLOWNESS = {"tcg": "20", "kvm": "2"}


# %% In the machine
def prepare(ssh: Ssh) -> None:
    """The tree as it is here now, and ``./setup`` as a student would run it."""
    ssh.send(TREE)
    for path in filter(None, os.environ.get("MINIDOCK_VM_SEND", "").split(":")):
        ssh.run(f"sudo install -d -o vagrant {path}")
        ssh.send(Path(path), path)
    if ssh.show("cd /vagrant && sudo ./setup --lab", PREPARING) != 0:
        raise Failed("./setup --lab failed in the machine")


def run_tests(ssh: Ssh, names: list[str], accelerator: str, seconds: int) -> bool:
    """Run the tests ``names`` (none: all) there, with the report here; whether all passed."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(names) + "\n")
        file.flush()
        Path(file.name).chmod(0o644)
        ssh.put(Path(file.name), "/tmp/tests.txt")
    chosen = "@/tmp/tests.txt" if names else ""
    script = (
        f"cd /vagrant && sudo env MINIDOCK_SLOWNESS={SLOWNESS[accelerator]} "
        f".venv/bin/python -m pytest --durations=15 -rs {chosen} "
        "--junitxml=/tmp/vm.xml -o junit_family=xunit1"
    )
    say(f"pytest in the machine: {len(names) or 'all'} {'names' if names else 'tests'}")
    status = ssh.show(script, seconds)
    ssh.fetch("/tmp/vm.xml", GUEST)
    return status == 0


# %% Which tests
def smoke(host: Path = HOST) -> list[str]:
    """What the host's report calls skipped, and what is always run; as pytest wants it."""
    skipped: list[str] = []
    if host.exists():
        for name, reason in table.read(host).items():
            if reason is not None and not reason.startswith(table.NOT_IN_THE_TREE):
                skipped.append(name.partition(" (")[0])
    covered = tuple(name for name in ALWAYS if "::" not in name)
    more = [name for name in dict.fromkeys(skipped) if not name.startswith(covered)]
    return [*ALWAYS, *[name for name in more if name not in ALWAYS]]


def compare() -> list[str]:
    """Write the table of what was skipped where; what has run nowhere."""
    if not HOST.exists():
        say("no report of the host's run (nox -s tests): no table")
        return []
    found = table.compare(table.read(HOST), table.read(GUEST))
    TABLE.write_text(found.text())
    print(found.text())
    return found.nowhere
