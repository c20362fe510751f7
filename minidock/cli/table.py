"""Tables and times, as Docker's command line prints them.

**Interface:** :func:`print_table`, :func:`ago`, :func:`local_time`,
:func:`human_size`, :func:`binary_size`, :func:`show`.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


# %% Tables
def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]], least: int = 0) -> None:
    """Columns as wide as their widest entry (and ``least``), three blanks between."""
    everything = [list(titles), *[list(row) for row in rows]]
    widths = [max(least, *(len(row[n]) + 3 for row in everything)) for n in range(len(titles))]
    for row in everything:
        line = "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(line.rstrip() if row is not everything[0] else line.rstrip())


def show(
    entries: Sequence[Any],
    columns: Mapping[str, tuple[str, Callable[[Any], str]]],
    chosen: Sequence[str],
    template: str,
    least: int = 0,
) -> None:
    """A table of the ``chosen`` columns, or what ``--format`` says.

    ``columns`` maps the name that a template uses to title and value.
    """
    if template == "json":
        for entry in entries:
            print(json.dumps({n: value(entry) for n, (title, value) in columns.items() if title}))
        return
    if not template or template == "table":
        titles = [columns[name][0] for name in chosen]
        cells = [[columns[name][1](entry) for name in chosen] for entry in entries]
        print_table(titles, cells, least)
        return
    from minidock.cli.flags import PlainError
    from minidock.cli.gotemplate import Template, TemplateError

    text = template.removeprefix("table ").replace("\\t", "\t").replace("\\n", "\n")
    try:
        compiled = Template(text, strict=True)
    except TemplateError as error:
        raise PlainError(f"failed to parse template: {error}") from None
    try:
        rows = [{n: value(e) for n, (_, value) in columns.items()} for e in entries]
        lines = [compiled.render(row) for row in rows]
    except TemplateError as error:
        raise PlainError(f"failed to execute template: {error}") from None
    if template.startswith("table "):
        title = compiled.render({name: title for name, (title, _) in columns.items()})
        print_table(title.split("\t"), [line.split("\t") for line in lines], least)
        return
    for line in lines:
        print(line)


# %% Times and sizes
def ago(moment: float) -> str:
    """``3 minutes ago``."""
    return f"{duration(time.time() - moment)} ago"


def duration(seconds: float) -> str:
    """A length of time in Docker's words."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    minutes, hours = whole // 60, round(whole / 3600)
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    for limit, length, unit in ((48, 1, "hours"), (336, 24, "days"), (1440, 168, "weeks")):
        if hours < limit:
            return f"{hours // length} {unit}"
    return f"{hours // 720} months" if hours < 17520 else f"{hours // 8760} years"


def local_time(moment: float) -> str:
    """``2024-05-06 07:08:09 +0200 CEST``, as Go prints a time."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(moment))


def human_size(size: float, digits: int = 3) -> str:
    """``4.49MB``: three significant ``digits``, powers of a thousand."""
    return _scaled(size, 1000, digits, ("B", "kB", "MB", "GB", "TB", "PB"))


def binary_size(size: float) -> str:
    """``1.5MiB``: four significant digits, powers of 1024."""
    return _scaled(size, 1024, 4, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))


def _scaled(size: float, step: int, digits: int, units: Sequence[str]) -> str:
    for unit in units[:-1]:
        if size < step:
            return f"{size:.{digits}g}{unit}"
        size /= step
    return f"{size:.{digits}g}{units[-1]}"
