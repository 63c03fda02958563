"""Evaluation: measures of classification with intervals, records of predictions, figures.

Nothing is imported here; :mod:`ppi_med.evaluation.classification` gathers the measures.
"""
