"""``minidock-lab``: start a lab, work, check.

**Interface:** :func:`run_command`.

A command is a function ``(options) -> status``; 0 is good, 1 is "not yet",
2 is wrong usage.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from labs import progress, sandbox, splice, workcopy
from labs.grader import Verdict
from labs.progress import State
from labs.table import HERE, ROOT, Lab, all_labs, cgroup_version, get, missing
from minidock.errors import Conflict, Forbidden, InvalidParameter, MiniDockError, Unavailable

LONGEST = 900.0  # seconds for all checks of a lab, on the slowest machine

Options = argparse.Namespace


# %% Which lab is meant
def chosen(name: str | None) -> Lab:
    """The lab ``name``; without one that of this shell, of this directory, or the only one started."""
    if name:
        return get(name)
    here = Path.cwd()
    started = [lab for lab in all_labs().values() if workcopy.directory(lab).is_dir()]
    for lab in started:
        if os.environ.get("MINIDOCK_LAB") == lab.name or here.is_relative_to(
            workcopy.directory(lab)
        ):
            return lab
    if len(started) == 1:
        return started[0]
    raise InvalidParameter(f"which lab? (one of {', '.join(all_labs())})")


def in_shell_of(lab: Lab) -> bool:
    """Whether we are in the sandbox of a repair lab, beside what is broken."""
    inside = sandbox.INSIDE in os.environ and os.environ.get("MINIDOCK_LAB") == lab.name
    return inside and not lab.blanks


# %% Grading
def grade(lab: Lab, place: Path, *modes: str) -> list[Verdict]:
    """Run the checks of ``lab`` on the work copy ``place``, in a sandbox or in the one we are in."""
    _check_host(lab)
    out = os.memfd_create("verdicts")
    try:
        program = ["-P", "-m", "labs.grader", lab.name, str(place), archive(), str(out), *modes]
        if "live" in modes:
            status = subprocess.call([sys.executable, *program], pass_fds=[out])
        else:
            command = [sys.executable, *program]
            status = sandbox.run(command, place, _variables(lab), [out], LONGEST)
        os.lseek(out, 0, os.SEEK_SET)
        with open(out, closefd=False) as file:
            verdicts = [Verdict.from_json(json.loads(line)) for line in file]
    finally:
        os.close(out)
    if any(mode.startswith("only=") for mode in modes):
        return verdicts
    return verdicts + _unreached(lab, verdicts, status)


def _check_host(lab: Lab) -> None:
    if os.geteuid() != 0:
        raise Forbidden(f"a lab's engine needs root: sudo minidock-lab … {lab.name}")
    lacking = missing(lab)
    if lacking:
        raise Unavailable(f"lab {lab.name} needs {', '.join(lacking)}, which this host lacks")


def _unreached(lab: Lab, verdicts: Sequence[Verdict], status: int) -> list[Verdict]:
    """Checks that never came to a verdict, because the grader or its sandbox has ended."""
    said = "they took too long" if status == 124 else f"the grader ended with status {status}"
    return [
        Verdict(check.name, check.name, check.points, False, "a verdict", said, check.read)
        for check in lab.checks[len(verdicts) :]
    ]


def _variables(lab: Lab) -> dict[str, str]:
    variables = {"MINIDOCK_LAB": lab.name, "MINIDOCK_LABS": str(workcopy.home())}
    if "MINIDOCK_LAB_PATIENCE" in os.environ:
        variables["MINIDOCK_LAB_PATIENCE"] = os.environ["MINIDOCK_LAB_PATIENCE"]
    return variables


def archive() -> str:
    """The image that the checks use, made once."""
    path = workcopy.home() / ".busybox.tar"
    if not path.exists():
        from minidock.images import bootstrap

        workcopy.home().mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}")
        bootstrap.make("busybox", new)
        new.rename(path)
    return str(path)


# %% list, start, reset
def list_(options: Options) -> int:
    """list: the labs, their points, and how far you are."""
    states = progress.load()
    print(f"{'LAB':<12} {'CHAPTER':<15} {'POINTS':<8} {'STATE':<12} TITLE")
    for lab in all_labs().values():
        state = states.get(lab.name, State())
        points = f"{state.best}/{lab.points}"
        print(f"{lab.name:<12} {lab.chapter:<15} {points:<8} {_word(lab, state):<12} {lab.title}")
    return 0


def _word(lab: Lab, state: State) -> str:
    if state.passed:
        return "passed"
    return "started" if workcopy.directory(lab).is_dir() else "-"


def start(options: Options) -> int:
    """start LAB: make your work copy."""
    lab = get(options.lab)
    place = workcopy.directory(lab)
    workcopy.make(lab, place)
    print((place / "README.md").read_text())
    for path in workcopy.own_files(place):
        print(f"yours to write: {path}")
    return 0


def reset(options: Options) -> int:
    """reset LAB: a new work copy; yours is kept beside it."""
    lab = chosen(options.lab)
    place = workcopy.started(lab)
    kept = place.with_name(f"{lab.name}.{time.strftime('%Y%m%d-%H%M%S')}")
    if kept.exists():
        raise Conflict(f"{kept} is there already: wait a second")
    place.rename(kept)
    workcopy.make(lab, place)
    print(f"{place} is new; what you had is in {kept}")
    return 0


# %% check, watch
def check(options: Options) -> int:
    """check [LAB]: run the checks."""
    lab = chosen(options.lab)
    return _check(lab, workcopy.started(lab))


def _check(lab: Lab, place: Path) -> int:
    print(f"{lab.name}: {lab.title}", flush=True)
    if in_shell_of(lab):
        verdicts = grade(lab, place, "live")
        print("This shell's shop only; what counts is repair.sh, checked outside of the shell.")
    else:
        verdicts = grade(lab, place)
        _note(lab, verdicts)
    points = sum(one.points for one in verdicts if one.passed)
    passed = points == lab.points
    print(f"{points} of {lab.points} points" + (": passed" if passed else ""))
    return 0 if passed else 1


def _note(lab: Lab, verdicts: Sequence[Verdict]) -> State:
    states = progress.load()
    state = states.get(lab.name, State()).after(verdicts)
    progress.save({**states, lab.name: state})
    return state


def watch(options: Options) -> int:
    """watch [LAB]: check now, and whenever you have saved a file, until all is well."""
    lab = chosen(options.lab)
    place = workcopy.started(lab)
    while True:
        seen = workcopy.changed(place)
        if _check(lab, place) == 0:
            return 0
        workcopy.give_back()
        print("waiting for a change (Ctrl-C ends this)", flush=True)
        while workcopy.changed(place) == seen:
            time.sleep(0.3)


# %% hint, solution
def hint(options: Options) -> int:
    """hint [LAB]: one more hint for the first check that fails."""
    lab = chosen(options.lab)
    place = workcopy.started(lab)
    state = progress.load().get(lab.name, State())
    if in_shell_of(lab):
        verdicts = grade(lab, place, "live", "quiet")
    elif workcopy.changed(place) > state.checked:
        state = _note(lab, grade(lab, place, "quiet"))
        verdicts = list(state.verdicts)
    else:
        verdicts = list(state.verdicts)
    failed = next((one for one in verdicts if not one.passed), None)
    if failed is None:
        print("Nothing fails.")
        return 0
    _show_hints(lab, state, failed)
    return 1


def _show_hints(lab: Lab, state: State, failed: Verdict) -> None:
    print(f"{failed.title}:\n  expected: {failed.expected}\n  but:      {failed.said}")
    hints = [*failed.hints, f"Read {failed.read}."]
    count = min(state.shown.get(failed.name, 0) + 1, len(hints))
    for number, text in enumerate(hints[:count], 1):
        print(f"  hint {number} of {len(hints)}: {text}")
    shown = {**state.shown, failed.name: count}
    progress.save({**progress.load(), lab.name: replace(state, shown=shown)})


def solution(options: Options) -> int:
    """solution [LAB]: how the engine does it; after you have passed."""
    lab = chosen(options.lab)
    if not progress.load().get(lab.name, State()).passed:
        print(f"The solution of {lab.name} is shown when your own has passed: minidock-lab check")
        return 1
    if not lab.blanks:
        print((HERE / "solutions" / f"{lab.name}.sh").read_text())
    for blank in lab.here():
        source = (ROOT / blank.module).read_text()
        for name in blank.todos:
            place = splice.functions(source)[name]
            print(f"# {blank.module}, lines {place.first} to {place.last}")
            print(splice.text_of(source, name) + "\n")
    return 0


# %% status, report
def status(options: Options) -> int:
    """status: where things are, and how far you are."""
    states = progress.load()
    print(f"work copies: {workcopy.home()}")
    print(f"this host:   cgroups {cgroup_version()}, {'root' if os.geteuid() == 0 else 'not root'}")
    for lab in all_labs().values():
        state = states.get(lab.name, State())
        if not workcopy.directory(lab).is_dir():
            continue
        print(
            f"{lab.name}: {_word(lab, state)}, {state.best} of {lab.points} points, {state.tries} tries"
        )
        for verdict in state.verdicts:
            print(f"  {'ok   ' if verdict.passed else 'FAIL '} {verdict.title}")
    return 0


def report(options: Options) -> int:
    """report [--fresh] [-o FILE]: your points as JSON, in Gradescope's form."""
    states = progress.load()
    labs = [get(name) for name in options.labs] or list(all_labs().values())
    verdicts = {name: state.verdicts for name, state in states.items()}
    if options.fresh:
        verdicts = {
            lab.name: tuple(grade(lab, workcopy.directory(lab), "quiet"))
            for lab in labs
            if workcopy.directory(lab).is_dir()
        }
    text = json.dumps(progress.gradescope(labs, verdicts), indent=1, ensure_ascii=False)
    if options.output:
        Path(options.output).write_text(text + "\n")
    else:
        print(text)
    return 0


# %% shell
def shell(options: Options) -> int:
    """shell [LAB] [-- COMMAND]: a shell in a sandbox, where `minidock` is your engine."""
    lab = chosen(options.lab)
    place = workcopy.started(lab)
    _check_host(lab)
    command = options.command or ["bash", "--norc", "-i"]
    if not options.command:
        print(f"A sandbox for the lab {lab.name}: exit ends it, and all that is in it.", flush=True)
    program = ["-P", "-m", "labs.shell", lab.name, str(place), archive(), *command]
    variables = {**_variables(lab), "PS1": f"[{lab.name}] \\w# "}
    return sandbox.run([sys.executable, *program], place, variables)


# %% Finding and running one
COMMANDS = {
    "list": list_,
    "start": start,
    "watch": watch,
    "check": check,
    "hint": hint,
    "reset": reset,
    "solution": solution,
    "status": status,
    "report": report,
    "shell": shell,
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="minidock-lab", description="Labs on the engine MiniDock.")
    commands = top.add_subparsers(dest="name", required=True, metavar="COMMAND")
    for name, function in COMMANDS.items():
        text = (function.__doc__ or "").partition(": ")[2]
        one = commands.add_parser(name, help=text, description=text)
        if name == "report":
            one.add_argument("labs", nargs="*", metavar="LAB")
            one.add_argument("--fresh", action="store_true", help="grade again, believe no file")
            one.add_argument("-o", "--output", metavar="FILE", help="write it to FILE")
        elif name not in ("list", "status"):
            one.add_argument("lab", metavar="LAB", nargs=None if name == "start" else "?")
    return top


def run_command(arguments: list[str]) -> int:
    """Run ``arguments``; an error becomes one line and a status."""
    command: list[str] = []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, command = arguments[:at], arguments[at + 1 :]
    options = parser().parse_args(arguments)
    options.command = command
    try:
        return COMMANDS[options.name](options)
    except (MiniDockError, OSError) as error:
        sys.stderr.write(f"minidock-lab: {error}\n")
        return 2
    finally:
        workcopy.give_back()
