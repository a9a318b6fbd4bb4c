"""Whole networks, each short enough to be read against its source."""

from .lenet import lenet5
from .mlp import mlp
from .mobilenet import mobilenet_v2
from .resnet import resnet18, resnet34, resnet50
from .vgg import vgg16

__all__ = ["lenet5", "mlp", "mobilenet_v2", "resnet18", "resnet34", "resnet50", "vgg16"]
