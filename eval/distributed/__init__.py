"""Distributed speculative inference on paper, in virtual time, on real clocks and under faults."""
