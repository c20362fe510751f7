"""Benchmarks: MiniDock and Docker, side by side in one run."""
