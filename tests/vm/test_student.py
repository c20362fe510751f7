"""What a student finds after ``vagrant up``, and does."""

import json
import os
import platform

from tools.vm.ssh import Ssh


# %% The machine
def test_a_kernel_of_its_own(guest: Ssh) -> None:
    """Not the host's, and with what the host's may lack."""
    assert guest.run("uname -r").strip() != platform.release()
    assert guest.run("stat -f -c %T /sys/fs/cgroup").strip() == "cgroup2fs"
    controllers = set(guest.run("cat /sys/fs/cgroup/cgroup.controllers").split())
    assert controllers >= {"cpu", "cpuset", "io", "memory", "pids"}
    assert guest.run("ps -o comm= 1").strip() == "systemd"


def test_what_the_tests_of_storage_and_namespaces_need(guest: Ssh) -> None:
    assert "thin-pool" in guest.run("sudo modprobe dm_thin_pool && sudo dmsetup targets")
    assert guest.run("unshare --user --map-root-user id -u").strip() == "0"
    for program in ("crun", "runc", "podman", "skopeo", "umoci", "fuse-overlayfs", "mkfs.btrfs"):
        assert guest.run(f"sudo sh -c 'command -v {program}'").strip()


def test_nothing_has_failed_at_boot(guest: Ssh) -> None:
    assert guest.run("systemctl --failed --no-legend --plain").strip() == ""


def test_every_machine_has_a_name_of_its_own(guest: Ssh) -> None:
    """Made at the first boot, not baked into the box."""
    assert len(guest.run("cat /etc/machine-id").strip()) == 32
    assert guest.run("ls /etc/ssh/ssh_host_*_key").split() == ["/etc/ssh/ssh_host_ed25519_key"]


# %% The engine
def test_a_container(guest: Ssh) -> None:
    guest.run("sudo minidock bootstrap")
    assert guest.run("sudo minidock run --rm busybox echo hello").strip() == "hello"
    assert "fail" not in guest.run("sudo minidock doctor").split()


def test_docker_beside_minidock(guest: Ssh) -> None:
    """Its daemon starts when somebody asks; its firewall must not stop our containers."""
    image = "/var/lib/minidock/bootstrap/busybox-latest.tar"
    convert = f"skopeo copy -q oci-archive:{image} docker-daemon:busybox:latest"
    guest.run(f"sudo systemctl start docker.socket && sudo {convert}")
    try:
        assert guest.run("sudo docker run --rm busybox echo hello").strip() == "hello"
        script = 'ping -c 1 -W 10 $(ip route | sed -n s/default.via.//p | cut -d" " -f1)'
        assert "1 packets received" in guest.run(f"sudo minidock run --rm busybox sh -c '{script}'")
    finally:
        guest.run(
            "sudo docker image rm -f busybox; sudo systemctl stop docker.service containerd.service"
        )


def test_the_book_is_shown(guest: Ssh) -> None:
    """By the step that may take minutes, and is not part of a smoke test: what it would start is."""
    if "built" in guest.run("test -e /vagrant/chapters/_build/html && echo built || true"):
        assert "MiniDock" in guest.run("curl -sS http://127.0.0.1:8000/")
    else:
        assert guest.run("cd /vagrant && .venv/bin/sphinx-build --version").startswith(
            "sphinx-build"
        )


# %% The tree
def test_the_tree_is_there_without_what_is_the_hosts(guest: Ssh) -> None:
    names = set(guest.run("ls -A /vagrant").split())
    assert {"README.md", "Vagrantfile", "minidock", "tests", ".venv"} <= names
    assert not names & {".git", ".vagrant", "reports"}
    assert os.environ["MINIDOCK_VM_BOX"]


# %% A lab, from the first failure to the report
def test_a_lab_is_graded_end_to_end(guest: Ssh) -> None:
    """The lab whose functions only version 2 of cgroups has."""
    lab = "sudo minidock-lab"
    guest.run("sudo rm -rf ~/minidock-labs")
    yours = [
        line.removeprefix("yours to write: ")
        for line in guest.run(f"{lab} start cgroups").splitlines()
        if line.startswith("yours to write: ")
    ]
    assert [name.partition("/minidock/")[2] for name in yours] == ["cgroups/v2.py"]
    failed = guest.run(f"{lab} check cgroups && echo passed || true")
    assert "FAIL" in failed and "is yours to write" in failed and "passed" not in failed
    assert "hint" in guest.run(f"{lab} hint cgroups || true")
    for name in yours:
        engine = f"/vagrant/minidock/{name.partition('/minidock/')[2]}"
        guest.run(f"cp {engine} {name}")  # without sudo: the file is the student's
    assert guest.run(f"{lab} check cgroups").rstrip().endswith("15 of 15 points: passed")
    assert "def _limit_memory" in guest.run(f"{lab} solution cgroups")
    report = json.loads(guest.run(f"{lab} report --fresh"))
    scores = {one["name"]: (one["score"], one["max_score"]) for one in report["tests"]}
    ours = {name: score for name, score in scores.items() if name.startswith("cgroups: ")}
    assert sum(score for score, _ in ours.values()) == 15
    assert all(score == 0 for name, (score, _) in scores.items() if name not in ours)
