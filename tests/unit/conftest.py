"""Properties are tried without a stopwatch, as the machine may be busy, and leave no files behind."""

from hypothesis import settings

settings.register_profile("here", deadline=None, database=None)
settings.load_profile("here")
