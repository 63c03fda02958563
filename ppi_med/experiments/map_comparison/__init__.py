"""Saliency methods side by side on one network and one folder of photographs.

- ``photographs``: images, labels and boxes; ``networks``: the network and what it expects.
- ``methods``: the methods by name, and controls that do not look at the network.
- ``measure``: curves and localisation of a batch; ``plan``: the cells, each with a record.
- ``table``, ``figure``: pure functions of the records.
- ``randomisation``, ``randomisation_table``: the sanity check of every method.
"""
