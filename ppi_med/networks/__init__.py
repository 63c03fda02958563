"""Networks: backbones by name, a tensor network, and the GA network over a volume's slices."""

from ppi_med.networks.attention import SliceAttention
from ppi_med.networks.backbones import (
    AdaptedNetwork,
    Backbone,
    create_backbone,
    create_classifier,
)
from ppi_med.networks.efficientnet_lite import EfficientNetLite0
from ppi_med.networks.lotenet import LoTeNet
from ppi_med.networks.multiview import (
    MultiViewClassifier,
    MultiViewOutput,
    SliceClassifier,
    ga_parameter_groups,
    mixture_logit,
    relative_positions,
)
from ppi_med.networks.small_cnn import SmallCNN, SmallVGG

__all__ = [
    "AdaptedNetwork",
    "Backbone",
    "EfficientNetLite0",
    "LoTeNet",
    "MultiViewClassifier",
    "MultiViewOutput",
    "SliceAttention",
    "SliceClassifier",
    "SmallCNN",
    "SmallVGG",
    "create_backbone",
    "create_classifier",
    "ga_parameter_groups",
    "mixture_logit",
    "relative_positions",
]
