"""``minidock doctor``.

**Interface:** :func:`run`.
"""

import json
from dataclasses import asdict

from minidock.cli.flags import Flag, Usage, need, parse

FLAGS = [Flag("format", "", "string", "'json', or nothing for a table")]

HELP = {"doctor": Usage("doctor", "[OPTIONS]", "Check whether this host can run containers", FLAGS)}

MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


# %% doctor
def run(arguments: list[str]) -> int:
    """Print what is found; the status is 1 if something is in the way."""
    values, rest = parse(arguments, FLAGS)
    need(rest, "doctor", 0, 0)
    from minidock.doctor import FAIL, examine, this_host

    findings = examine(this_host())
    if values["format"] == "json":
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            print(f"{MARKS[finding.level]}  {finding.what}")
            if finding.mend:
                print(f"      mend: {finding.mend}   (chapter: {finding.chapter})")
    return int(any(finding.level == FAIL for finding in findings))
