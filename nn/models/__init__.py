"""Whole networks, each short enough to be read against its source."""

from .mlp import mlp

__all__ = ["mlp"]
