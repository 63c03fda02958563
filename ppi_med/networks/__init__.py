"""Networks: backbones by name, and the GA network over the slices of a volume."""

from ppi_med.networks.attention import SliceAttention
from ppi_med.networks.backbones import (
    AdaptedNetwork,
    Backbone,
    create_backbone,
    create_classifier,
)
from ppi_med.networks.efficientnet_lite import EfficientNetLite0
from ppi_med.networks.mixture import mixture_logit
from ppi_med.networks.multiview import MultiViewClassifier, MultiViewOutput, SliceClassifier
from ppi_med.networks.positions import relative_positions
from ppi_med.networks.small_cnn import SmallCNN

__all__ = [
    "AdaptedNetwork",
    "Backbone",
    "EfficientNetLite0",
    "MultiViewClassifier",
    "MultiViewOutput",
    "SliceAttention",
    "SliceClassifier",
    "SmallCNN",
    "create_backbone",
    "create_classifier",
    "mixture_logit",
    "relative_positions",
]
