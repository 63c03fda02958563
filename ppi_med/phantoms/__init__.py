"""Phantoms: simulated data sets, so that everything runs with nothing downloaded.

- `oct`: eyes at four sites; `ct`: chests around LIDC's outlines; `birds`: on habitats.
- `agreement`: how often a site's mark agrees with the label; `base`: random numbers and folders.
"""
