"""Hints: one module for each lab, one function for each check that can say more.

A hint function ``(wrong, bench)`` is called right after its check has
failed, in the sandbox, while containers and mounts are as the check left
them. It yields lines, from the vague to the plain; ``minidock-lab hint``
shows one more each time.
"""
