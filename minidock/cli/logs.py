"""``minidock logs``.

**Interface:** :func:`run`.
"""

from urllib.parse import quote

from minidock.cli.flags import Flag, PlainError, Usage, need, parse
from minidock.cli.streams import Demultiplexer, write_all
from minidock.client import Client

FLAGS = [
    Flag("details", "", "bool", "Show extra details provided to logs"),
    Flag("follow", "f", "bool", "Follow log output"),
    Flag("since", "", "string", "Show logs since timestamp or relative (e.g. 42m for 42 minutes)"),
    Flag("tail", "n", "string", "Number of lines to show from the end of the logs", "all"),
    Flag("timestamps", "t", "bool", "Show timestamps"),
    Flag(
        "until", "", "string", "Show logs before a timestamp or relative (e.g. 42m for 42 minutes)"
    ),
]

HELP = {"logs": Usage("logs", "[OPTIONS] CONTAINER", "Fetch the logs of a container", FLAGS)}


# %% logs
def run(arguments: list[str]) -> int:
    """``minidock logs``."""
    values, rest = parse(arguments, FLAGS)
    need(rest, "logs", 1, 1)
    query = (
        f"stdout=1&stderr=1&follow={int(values['follow'])}&timestamps={int(values['timestamps'])}"
    )
    query += f"&tail={quote(values['tail'])}&details={int(values['details'])}"
    for name in ("since", "until"):
        if values[name]:
            query += f"&{name}={moment(values[name], name)}"
    answer = Client.from_environment().open("GET", f"/containers/{rest[0]}/logs?{query}")
    framed = "multiplexed" in answer.headers.get("content-type", "")
    show = Demultiplexer().feed if framed else lambda data: write_all(1, data)
    for piece in answer.pieces():
        show(piece)
    return 0


# %% Moments
def moment(text: str, name: str = "since") -> str:
    """Seconds since 1970: from such a number, a date, or a length of time before now."""
    from minidock.spec.timestamp import parse_moment

    try:
        return f"{parse_moment(text):.9f}"
    except ValueError:
        raise PlainError(
            f'invalid value for "{name}": failed to parse value as time or duration: "{text}"'
        ) from None
