"""The pictures that the build draws of images that it has made."""

import os
import shutil
import subprocess

import pytest

from minidock.spec.image import chain_ids
from tools.pictures import draw, make

LINES = ["base: bin/sh etc/motd=hello", "", "work: etc/.wh.motd 'a b=c d'", "note:"]


def test_the_same_on_every_machine() -> None:
    before = os.umask(0o077)
    try:
        one = make(LINES)
        os.umask(0o002)
        two = make(LINES)
    finally:
        os.umask(before)
    assert one == two
    assert [step.title for step in one.steps] == ["base", "work", "note"]
    assert one.steps[2].diff_id == ""
    assert list(one.chains) == chain_ids([step.diff_id for step in one.steps[:2]])
    # Written down: whoever changes the packing changes the ids of images.
    assert one.config == "sha256:9e948c218ead16b3785700ced6f1c3a4c5c3f995d58fd056adca1a85063970a0"


def test_what_is_in_the_picture() -> None:
    picture = make(LINES)
    text = draw(picture)
    for digest in (picture.config, picture.manifest, *picture.chains):
        assert digest[7:19] in text
    assert "etc/.wh.motd" in text
    assert text.count("its layer") == 2
    if shutil.which("dot") is None:
        pytest.skip("needs graphviz")
    done = subprocess.run(["dot", "-Tsvg"], input=text.encode(), capture_output=True, check=True)
    assert b"</svg>" in done.stdout


def test_other_files_another_image() -> None:
    assert make(LINES).config != make([*LINES[:2], "work: etc/.wh.motd"]).config
