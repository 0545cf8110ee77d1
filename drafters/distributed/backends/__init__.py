"""Where servers run: threads of this process, or Ray actors."""
