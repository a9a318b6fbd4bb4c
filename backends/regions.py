"""How a driver runs a launch that may be cut: on the pool if there is work enough, else at once.

A region gets a task, a small function that takes the kernel's arguments from a frame on the
caller's stack, and adds its range.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from . import split
from .irtext import Text

WORD = 8  # bytes of an argument in a frame
Operands = Sequence[tuple[str, str]]  # (type, operand)


class Region(NamedTuple):
    """A launch that may be cut. arguments: those of the whole launch, the context first."""

    symbol: str
    arguments: Operands
    merges: bool
    extent: str
    grain: str
    work: str


def emit_alone(text: Text, region: Region, index: str) -> str:
    """Run everything on the calling thread; the code."""
    end = region.extent
    if region.merges:
        end = text.value(f"add {index} {end}, 1") if end.startswith("%") else str(int(end) + 1)
    return text.call("i32", region.symbol, *region.arguments, (index, "0"), (index, end))


def emit_region(text: Text, region: Region, task: str, frame: str) -> str:
    """Run the ranges on the pool if the work is known to be, or turns out, enough; the code."""
    if not region.work.startswith("%"):
        return _on_pool(text, region, task, frame)
    return _either(
        text,
        text.value(f"icmp sge i64 {region.work}, {split.FLOOR}"),
        lambda: _on_pool(text, region, task, frame),
        lambda: emit_alone(text, region, "i64"),
    )


def _on_pool(text: Text, region: Region, task: str, frame: str) -> str:
    for i, (type, operand) in enumerate(region.arguments[1:]):
        text.do(f"store {type} {operand}, ptr {_word(text, frame, i)}, align 8")
    arguments = [("ptr", "%context"), ("ptr", f"@{task}"), ("ptr", frame)]
    sizes = [("i64", region.extent), ("i64", region.grain), ("i64", region.work)]
    code = text.call("i32", "symgraph.parallel", *arguments, *sizes)
    if not region.merges:
        return code
    return _either(
        text, text.value(f"icmp eq i32 {code}, 0"), lambda: _merge(text, region), lambda: code
    )


def _merge(text: Text, region: Region) -> str:
    begin = region.extent
    end = text.value(f"add i64 {begin}, 1")
    return text.call("i32", region.symbol, *region.arguments, ("i64", begin), ("i64", end))


def _either(text: Text, flag: str, then: Callable[[], str], orelse: Callable[[], str]) -> str:
    """The code of one of two ways."""
    labels, after = (text.label("then"), text.label("else")), text.label("meet")
    text.fork(flag, *labels)
    ends = []
    for label, way in zip(labels, (then, orelse)):
        text.start(label)
        code = way()
        ends.append(f"[ {code}, %{text.block} ]")
        text.jump(after)
    text.start(after)
    return text.value(f"phi i32 {', '.join(ends)}")


def task_function(name: str, region: Region) -> Text:
    """The function that a region's threads call for their ranges."""
    text = Text()
    arguments = [("ptr", "%context")]
    for i, (type, _) in enumerate(region.arguments[1:]):
        at = _word(text, "%frame", i)
        arguments.append((type, text.value(f"load {type}, ptr {at}, align 8")))
    ranged = (("i64", "%begin"), ("i64", "%end"))
    text.do(f"ret i32 {text.call('i32', region.symbol, *arguments, *ranged)}")
    parameters = "ptr %context, ptr %frame, i64 %begin, i64 %end"
    head = f"define internal i32 @{name}({parameters}) nounwind {{\nentry:"
    text.lines = [head, *text.lines, "}"]
    return text


def _word(text: Text, frame: str, i: int) -> str:
    return text.value(f"getelementptr i8, ptr {frame}, i64 {WORD * i}") if i else frame
