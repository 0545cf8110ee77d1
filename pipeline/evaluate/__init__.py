"""The parts of stage eval: what acceptance the laws let expect, and the verdict."""
