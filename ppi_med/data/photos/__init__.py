"""Photographs: the standard layouts read into one form, and MONAI datalists from them.

- `photo`: one photograph with its class, part and boxes; `pixels`: from a reference to pixels.
- `cub`, `cifar`, `folders`, `imagenet`: readers of the layouts.
- `layouts`: which of them a folder has; `convert`: datalists.
- `transforms`: photographs as dictionary transforms.
"""
