"""Phantoms: simulated data sets, so that everything runs with nothing downloaded."""
