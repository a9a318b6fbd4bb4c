"""Layers: parameters made once, and the graph that a call builds of them."""

from .activation import Activation, PReLU
from .attention import MultiHeadAttention
from .container import Sequential
from .conv import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvNorm2d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    Depthwise2d,
)
from .dense import Dense
from .dropout import Dropout
from .embedding import Embedding
from .layer import Layer
from .norm import BatchNorm, LayerNorm
from .pool import AvgPool, Flatten, GlobalPool, MaxPool
from .recurrent import GRU, LSTM, RNN, Recurrent

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "AvgPool",
    "BatchNorm",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvNorm2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Dense",
    "Depthwise2d",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalPool",
    "Layer",
    "LayerNorm",
    "MaxPool",
    "MultiHeadAttention",
    "PReLU",
    "Recurrent",
    "Sequential",
]
