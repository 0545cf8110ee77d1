"""The checks of ``make doctor``."""
