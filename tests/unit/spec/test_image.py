"""Descriptors, configurations, chain ids."""

import hashlib

import pytest

from minidock.errors import InvalidParameter
from minidock.spec.codec import decode
from minidock.spec.image import Descriptor, ImageConfig, Manifest, chain_ids

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


def test_chain_ids_are_those_of_the_specification() -> None:
    two = "sha256:" + hashlib.sha256(f"{A} {B}".encode()).hexdigest()
    three = "sha256:" + hashlib.sha256(f"{two} {C}".encode()).hexdigest()
    assert chain_ids([]) == []
    assert chain_ids([A, B, C]) == [A, two, three]


@pytest.mark.parametrize(
    "digest",
    [
        "",
        "x",
        "sha256:",
        "sha256:/etc",
        "sha256:../../..",
        A.upper(),
        A + "a",
        A + "\n",
        f"md5:{'a' * 64}",
    ],
)
def test_a_digest_becomes_a_path_so_it_must_be_one(digest: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid digest"):
        decode(Descriptor, {"mediaType": "x", "digest": digest, "size": 1})
    with pytest.raises(InvalidParameter, match="invalid digest"):
        decode(ImageConfig, {"rootfs": {"type": "layers", "diff_ids": [A, digest]}})


def test_a_configuration_as_docker_writes_it() -> None:
    config = decode(
        ImageConfig,
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["sh"], "Entrypoint": None, "Env": ["A=b"], "Labels": None},
            "container_config": {"Cmd": ["old"]},
            "rootfs": {"type": "layers", "diff_ids": [A]},
            "history": [{"created_by": "x", "empty_layer": True}],
        },
    )
    assert (config.config.cmd, config.config.entrypoint, config.config.env) == (
        ("sh",),
        (),
        ("A=b",),
    )
    assert config.rootfs.diff_ids == (A,)


def test_a_manifest_of_docker_media_types() -> None:
    config = {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": A, "size": 2}
    layer = {
        "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "digest": B,
        "size": 3,
    }
    manifest = decode(Manifest, {"schemaVersion": 2, "config": config, "layers": [layer]})
    assert [one.digest for one in manifest.layers] == [B]
