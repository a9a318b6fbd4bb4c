"""Layers: parameters made once, and the graph that a call builds of them."""

from .activation import Activation, PReLU
from .container import Sequential
from .dense import Dense
from .dropout import Dropout
from .layer import Layer
from .norm import LayerNorm

__all__ = ["Activation", "Dense", "Dropout", "Layer", "LayerNorm", "PReLU", "Sequential"]
