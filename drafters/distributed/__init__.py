"""Distributed speculative inference: one drafter runs ahead while several target servers verify."""
