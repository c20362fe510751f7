"""Tools of the book: the loom and the transcript runner."""
