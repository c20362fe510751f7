"""The flag parser, in Docker's words."""

import pytest

from minidock.cli.flags import OptionError, UsageError, parse, size
from minidock.cli.options import OPTIONS
from minidock.cli.request import body_of
from minidock.cli.run import RUN_ONLY

FLAGS = [*OPTIONS, *RUN_ONLY]


def test_bundles_values_and_the_rest() -> None:
    values, rest = parse(
        ["-it", "--name=x", "-p", "1:2", "-p3:4", "img", "-x", "--rm"], FLAGS, False
    )
    assert values["interactive"] and values["tty"] and not values["rm"]
    assert (values["name"], values["publish"], rest) == ("x", ["1:2", "3:4"], ["img", "-x", "--rm"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nope"], "unknown flag: --nope"),
        (["-Z"], "unknown shorthand flag: 'Z' in -Z"),
        (["--name"], "flag needs an argument: --name"),
        (["-m", "x"], 'invalid argument "x" for "-m, --memory" flag: invalid size: \'x\''),
        (["--pids-limit", "x"], 'strconv.ParseInt: parsing "x": invalid syntax'),
        (["--rm=maybe"], 'strconv.ParseBool: parsing "maybe": invalid syntax'),
    ],
)
def test_bad_flags(arguments: list[str], words: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(arguments, FLAGS)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("64m", 64 << 20),
        ("1g", 1 << 30),
        ("5", 5),
        ("1.5k", 1536),
        ("2GB", 2 << 30),
        ("3KiB", 3072),
    ],
)
def test_sizes(text: str, number: int) -> None:
    assert size(text) == number


@pytest.mark.parametrize(
    ("publish", "bindings"),
    [
        ("80", {"80/tcp": [{"HostIp": "", "HostPort": ""}]}),
        ("8080:80/udp", {"80/udp": [{"HostIp": "", "HostPort": "8080"}]}),
        ("127.0.0.1:1:2", {"2/tcp": [{"HostIp": "127.0.0.1", "HostPort": "1"}]}),
        (
            "10-11:20-21",
            {
                "20/tcp": [{"HostIp": "", "HostPort": "10"}],
                "21/tcp": [{"HostIp": "", "HostPort": "11"}],
            },
        ),
    ],
)
def test_ports(publish: str, bindings: dict[str, object]) -> None:
    values, rest = parse(["-p", publish, "img"], FLAGS, False)
    assert body_of(values, rest, attach=True)["HostConfig"]["PortBindings"] == bindings


@pytest.mark.parametrize("publish", ["x", "1:y", "1-2:1-5", "99999"])
def test_bad_ports(publish: str) -> None:
    values, rest = parse(["-p", publish, "img"], FLAGS, False)
    with pytest.raises(OptionError):
        body_of(values, rest, attach=True)
