"""Stages that turn a target and an off-the-shelf drafter into a packaged, measured drafter."""

import os

# Threads that wait for work sleep instead of spinning, which GNU OpenMP, torch's on Linux, does for milliseconds by
# default: what another process could compute in that time it computes. Read when torch is loaded, so it is set before
# anything is imported. Set it to ACTIVE to have the default back.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
