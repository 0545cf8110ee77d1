"""What decoding costs: forwards, stop decisions, the time outside of forwards."""
