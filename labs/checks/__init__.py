"""The graders: one module for each lab, one function for each check.

A check's docstring is its title. It raises :class:`labs.bench.Wrong` with
what was expected and what the kernel said; each mistake in ``labs/wrong/``
must get words of its own, and a test sees to that.
"""
