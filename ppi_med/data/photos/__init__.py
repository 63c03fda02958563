"""Photographs: the standard layouts read to one form, and MONAI datalists made of them.

- ``photo``: one photograph with its class, part and boxes; ``pixels``: from a reference to pixels.
- ``cub``, ``cifar``, ``folders``, ``imagenet``, ``labels_csv``: a reader for each layout.
- ``layouts``: which of them a folder has; ``convert``: datalists.
- ``pickles``: CIFAR's batches, read without running what a pickle may hold.
- ``transforms``: photographs as dictionary transforms.
"""
