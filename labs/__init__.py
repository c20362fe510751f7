"""The labs: a student's function runs inside the real engine, and the kernel judges it.

``labs.toml`` says which functions of the engine a lab takes away. ``start``
makes a *work copy*: a tree in which every module is a link to the engine's,
except those that were blanked. ``check`` runs the engine from that tree in a
*sandbox* (private namespaces, which take everything with them when they go)
and looks at what the kernel then says. The solution is the engine itself.

========== =====================================================
table      what labs there are (``labs.toml``), as values
splice     taking function bodies out of a source, putting others in
workcopy   the tree in which the student works
sandbox    private namespaces for an engine that may be broken
bench      what a check has in hand
grader     the program in the sandbox: runs the checks
progress   what was reached, on disk; the report for Gradescope
cli        ``minidock-lab``
========== =====================================================

**See:** ``docs/design/0006-labs.md``; the book's chapter "The labs".
"""
