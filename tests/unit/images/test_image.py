"""How an image looks to a client: what dockerd 20.10 shows of the same configuration."""

from typing import Any

from minidock.images.image import Image, history, inspect
from minidock.spec.codec import decode
from minidock.spec.image import Descriptor, ImageConfig, Manifest

DIGEST = "sha256:" + "1" * 64


def image(document: dict[str, Any], *sizes: int) -> Image:
    manifest = Manifest(2, Descriptor("", DIGEST, 1))
    config = decode(ImageConfig, document)
    chains = tuple(DIGEST for _ in sizes)
    return Image(
        DIGEST, ("docker.io/library/a:1",), DIGEST, manifest, config, document, chains, sizes
    )


RICH = {
    "config": {
        "Cmd": ["sh"],
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 10**9},
        "Shell": ["/bin/bash", "-c"],
        "OnBuild": ["RUN x"],
        "ArgsEscaped": True,
        "StopTimeout": 5,
        "StopSignal": "SIGINT",
        "ExposedPorts": {"80/tcp": {}},
        "X-Unknown": 1,
    },
    "docker_version": "1.2",
    "variant": "v8",
    "comment": "hello",
    "x-unknown": [1],
}


def test_everything_that_docker_shows() -> None:
    shown = inspect(image(RICH), "overlay2", None)
    assert shown["Config"] == {
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False, "AttachStdout": False,
        "AttachStderr": False, "Tty": False, "OpenStdin": False, "StdinOnce": False, "Env": None,
        "Cmd": ["sh"], "Image": "", "Volumes": None, "WorkingDir": "", "Entrypoint": None,
        "OnBuild": ["RUN x"], "Labels": None, "ExposedPorts": {"80/tcp": {}},
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 10**9}, "ArgsEscaped": True,
        "StopSignal": "SIGINT", "StopTimeout": 5, "Shell": ["/bin/bash", "-c"],
    }  # fmt: skip
    assert (shown["Variant"], shown["DockerVersion"], shown["Comment"]) == ("v8", "1.2", "hello")
    assert shown["RootFS"] == {"Type": "layers"}
    assert shown["GraphDriver"] == {"Name": "overlay2", "Data": None}


def test_what_is_not_set_is_not_there() -> None:
    config = inspect(image({}), "vfs", None)["Config"]
    for name in ("Healthcheck", "ArgsEscaped", "Shell", "StopSignal", "ExposedPorts"):
        assert name not in config


def test_history() -> None:
    entries = [
        {"created": "2024-01-01T00:00:00Z", "created_by": "one", "comment": "c"},
        {"created_by": "two", "empty_layer": True},
        {"created": "2024-01-03T00:00:00Z", "created_by": "three"},
    ]
    shown = history(image({"history": entries}, 5, 7))
    assert [one["CreatedBy"] for one in shown] == ["three", "two", "one"]
    assert [one["Size"] for one in shown] == [7, 0, 5]
    assert [one["Id"] for one in shown] == [DIGEST, "<missing>", "<missing>"]
    assert [one["Tags"] for one in shown] == [["a:1"], None, None]
    assert [one["Created"] for one in shown] == [1704240000, 0, 1704067200]
    assert shown[2]["Comment"] == "c"
    assert history(image({}, 5)) == []
    strange = image({"created": "x", "history": [{"created": 5}, {"created": "yesterday"}]})
    assert [one["Created"] for one in history(strange)] == [0, 0]
    assert strange.created == 0
    assert history(image({"history": entries}))[0]["Size"] == 0
