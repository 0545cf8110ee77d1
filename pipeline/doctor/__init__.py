"""``python -m pipeline doctor``: is this machine ready for this configuration?"""
