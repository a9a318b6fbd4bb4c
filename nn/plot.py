"""Pictures of training: a curve in the terminal out of block characters, and a PNG of a history."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TextIO

import numpy as np

_BLOCKS = " ▁▂▃▄▅▆▇█"
_PLAIN = " ...::###"  # for terminals that cannot show the blocks


def curve(
    values: Sequence[float],
    title: str = "",
    *,
    width: int = 60,
    height: int = 8,
    log: bool = False,
    ascii: bool = False,
) -> str:
    """A filled curve, one column for each value or for each mean of several.

    log: the height is the logarithm. Values that are not finite (or not positive, with log) leave
    their column empty.
    """
    columns = _resampled(np.asarray(values, np.float64), width)
    with np.errstate(all="ignore"):
        heights = np.log(columns) if log else columns
    finite = heights[np.isfinite(heights)]
    if not finite.size:
        return f"{title}\n(no finite values)" if title else "(no finite values)"
    low, high = float(finite.min()), float(finite.max())
    scale = (high - low) or 1.0
    # the smallest value is one eighth high: it is seen to be there
    levels = [
        1 + round((h - low) / scale * (8 * height - 1)) if math.isfinite(h) else 0 for h in heights
    ]
    marks = _labels(low, high, height, log)
    blocks = _PLAIN if ascii else _BLOCKS
    lines = [title] if title else []
    for row in range(height - 1, -1, -1):
        cells = "".join(blocks[min(8, max(0, level - 8 * row))] for level in levels)
        lines.append(f"{marks.get(row, ''):>9} {'|' if ascii else '┤'}{cells}")
    corner, bar = ("+", "-") if ascii else ("└", "─")
    lines.append(" " * 10 + corner + bar * len(levels))
    last = str(len(values))
    lines.append(" " * 11 + "1" + last.rjust(len(levels) - 1) if len(levels) > len(last) else "")
    return "\n".join(line.rstrip() for line in lines)


def _resampled(values: np.ndarray, width: int) -> np.ndarray:
    """`width` columns: few values are repeated, many are averaged."""
    count = len(values)
    if count == 0:
        return values
    if count < width:
        return np.repeat(values, max(1, width // count))
    edges = np.linspace(0, count, width + 1).astype(int)
    return np.array([values[a:b].mean() for a, b in zip(edges, edges[1:])])


def _labels(low: float, high: float, height: int, log: bool) -> dict[int, str]:
    """Numbers beside the top, the middle and the bottom row."""
    ends = {height - 1: high, 0: low}
    if height >= 5 and high > low:
        ends[(height - 1) // 2] = low + (high - low) * ((height - 1) // 2) / (height - 1)
    return {row: f"{math.exp(v) if log else v:.3g}" for row, v in ends.items()}


def shows_blocks(stream: TextIO) -> bool:
    """Whether a stream's encoding has the block characters."""
    try:
        (_BLOCKS + "┤└─").encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def save_png(
    path: str | os.PathLike[str],
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    log: Sequence[str] = (),
    title: str = "",
) -> None:
    """Curves over epochs as a PNG, a panel beside the other.

    panels: {label of the vertical axis: {curve: values}}. log: panels with a logarithmic axis.
    Raises: ModuleNotFoundError that names what to install.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'a PNG is drawn by matplotlib ({error}): pip install ".[demo]"', name=error.name
        ) from None
    figure = Figure(figsize=(5 * len(panels), 3.6), layout="constrained")
    for axes, (label, curves) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items()
    ):
        for name, values in curves.items():
            axes.plot(range(1, len(values) + 1), values, label=name, linewidth=1.6)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.set_yscale("log" if label in log else "linear")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.suptitle(title)
    figure.savefig(path, format="png", dpi=120)
