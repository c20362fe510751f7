"""How Sphinx builds the book."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

project = "MiniDock"
author = "the MiniDock authors"
copyright = "the MiniDock authors"  # noqa: A001
extensions = ["myst_parser", "sphinx.ext.graphviz", "tools.weave", "tools.pictures"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "MiniDock: Docker, written to be read"
graphviz_output_format = "svg"
myst_enable_extensions = ["colon_fence", "deflist"]
pygments_style = "friendly"
suppress_warnings = ["misc.highlighting_failure"]
