"""Training of stop policies: tracing, data, the network, calibration, tuning."""
