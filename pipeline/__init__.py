"""Stages that turn a target and an off-the-shelf drafter into a packaged, measured drafter."""
