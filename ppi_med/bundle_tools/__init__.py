"""Looking after a MONAI bundle: does every id of its configurations resolve, and how it is packed.

MONAI is imported inside the functions that need it, so that `ppi-med --help` stays fast.
"""
