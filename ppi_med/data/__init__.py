"""Data: manifest, splits and datalist, and the readers below `oct`.

Nothing is imported here, so that a worker process pays only for the reader it runs.
"""
