"""Proactive Pseudo-Intervention and Weight Back Propagation for medical images, on MONAI.

Nothing is imported here: each part is taken from its own module, so that a script pays only for
what it uses, for example `from ppi_med.saliency import WBP`.
"""

__version__ = "0.2.0"
