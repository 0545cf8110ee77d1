"""Stages that turn a target and an off-the-shelf drafter into a packaged, measured drafter."""

import os

# Threads that wait for work sleep instead of spinning, which GNU OpenMP, torch's on Linux, does for milliseconds by
# default: what another process could compute in that time it computes. Measured on two busy cores, on 2 threads, by
# turns: a target forward of the embedded pair took 78 ms spinning and 10 ms asleep (11 ms on 1 thread), a window of 256
# tokens 493 ms and 127 ms (137 ms on 1), a forward of a model of 135 M parameters 812 ms and 136 ms (152 ms on 1).
# KMP_BLOCKTIME is Intel's and does nothing here. Read when torch is loaded, so it is set before anything is imported;
# OMP_WAIT_POLICY=ACTIVE in the environment lets them spin.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
