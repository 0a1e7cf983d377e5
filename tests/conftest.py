"""Settings for every test: generated examples are the same in every run, and may take their time.

To look for new ones:  python -m pytest --hypothesis-profile=explore
"""

from hypothesis import settings

settings.register_profile("repeatable", max_examples=60, derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=2000, deadline=None)
settings.load_profile("repeatable")
