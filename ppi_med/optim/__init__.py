"""Parameter groups and learning-rate schedules."""

from ppi_med.optim.groups import ga_parameter_groups
from ppi_med.optim.schedules import PerGroupStepLR, StepAfterLR

__all__ = ["PerGroupStepLR", "StepAfterLR", "ga_parameter_groups"]
