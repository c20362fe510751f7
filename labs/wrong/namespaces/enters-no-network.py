"""Enters a list that was written from memory: the network is not in it."""

# check: exec_joins
# expect: exec's process in the container's net namespace
import os

from minidock.linux.syscalls import Clone, setns


def enter(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        setns(pidfd, Clone.NEWNS | Clone.NEWPID | Clone.NEWIPC | Clone.NEWUTS | Clone.NEWCGROUP)
    finally:
        os.close(pidfd)
