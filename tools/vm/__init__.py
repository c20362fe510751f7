"""The laboratory's machine: built, started, filled, tested, and taken away again.

A virtual machine is the one thing in this project that is not a container:
it brings a kernel of its own. The class needs it for that (root without
fear, one kernel for everybody), and the tests need it for that too: a full
cgroup version 2, device mapper, systemd, none of which the host may have.

======================  =====================================================
:mod:`tools.vm.recipe`  what is in the box, and its digest
:mod:`tools.vm.box`     Debian packages to a Vagrant box, without KVM, loop devices or mounts
:mod:`tools.vm.disk`    a bootable disk, put together by hand
:mod:`tools.vm.cpu`     whether KVM is of any use here: tried, not believed
:mod:`tools.vm.libvirt` libvirt with or without systemd, and what it leaves behind
:mod:`tools.vm.machine` a machine: ``up``, ``run``, ``send``, ``fetch``, ``destroy``
:mod:`tools.vm.vagrant` … by Vagrant (python-vagrant, provider libvirt)
:mod:`tools.vm.qemu`    … by QEMU alone, where libvirt cannot run
:mod:`tools.vm.suite`   the test suite in the machine, and what it reports
:mod:`tools.vm.table`   what was skipped where; skipped in both is an error
:mod:`tools.vm.measure` what a virtual machine costs, for the book
======================  =====================================================

``python -m tools.vm`` is the program behind ``nox -s box`` and ``nox -s vm``.

**See:** the chapter *The machine under the laboratory*; docs/design/0005-vm.md.
"""
