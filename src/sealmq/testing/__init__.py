"""The public testing kit: what a program that talks to sealmq needs in its own tests.

It knows nothing of the test runner, and nothing in `sealmq` outside this package imports it.
"""

from sealmq.testing.ca import Fault, ThrowawayCA

__all__ = ["Fault", "ThrowawayCA"]
