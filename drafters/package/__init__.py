"""The shippable drafter: one directory of safetensors and JSON, written, checked, opened."""
