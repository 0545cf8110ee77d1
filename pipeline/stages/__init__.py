"""One module per stage, each ending with ``STAGE = Stage(...)``; a stage is found by its module name."""
