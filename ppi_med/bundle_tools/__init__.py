"""Tools for MONAI bundles: checking every id of the configurations, copying, packing.

MONAI is imported inside the functions that need it, so that `ppi-med --help` stays fast.
"""
