"""The kernel's doors: the only package that uses ctypes.

Everything a container is made of is a system call. Python's ``os`` module
has many of them; this package adds the rest (mount, clone, setns, capset,
rtnetlink, bpf, ...) as thin functions with Python types.

**Interface:** :mod:`~minidock.linux.syscalls` for the calls,
:mod:`~minidock.linux.netlink` for network devices, addresses and routes.
Every failure is an :class:`OSError` that names the call and its arguments.
"""
