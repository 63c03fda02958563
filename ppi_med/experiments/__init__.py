"""Experiments: many bundle runs that differ in a few keys, and tables made from their records.

- ``cells``: one run of an experiment, its record, and what has been done already.
- ``runner``: run the missing cells, in worker processes.
- ``bundles``: run a bundle in this process.
- ``shortcut``: does PPI unlearn a site's artefact? The phantom, the cells and the table of it.
"""
