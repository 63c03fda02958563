"""Photographs: the standard layouts read to one form, and MONAI datalists made of them.

- `photo`: one photograph with its class, part and boxes; `pixels`: from a reference to pixels.
- `cub`, `cifar`, `folders`, `imagenet`: readers of the layouts.
- `layouts`: which of them a folder has; `convert`: datalists.
- `transforms`: photographs as dictionary transforms.
"""
