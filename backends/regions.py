"""How a driver runs a launch that may be cut: on the pool if there is work enough, else at once.

A region gets a task, a small function that takes the kernel's arguments from a frame on the
caller's stack and adds its range to them, or moves them to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from . import split
from .irtext import Text
from .split import Slice, Split

WORD = 8  # bytes of an argument in a frame
Operand = tuple[str, str]  # type and name


class Region(NamedTuple):
    """A launch that may be cut. arguments: those of the whole launch, the context first.

    moves: for each buffer of a slice the elements from one unit to the next, and their bytes.
    """

    symbol: str
    arguments: tuple[Operand, ...]
    split: Split
    extent: str
    grain: str = ""
    work: str = ""
    moves: tuple[tuple[str, int], ...] = ()

    @property
    def words(self) -> list[Operand]:
        """What is in the frame: arguments, then distances."""
        return [*self.arguments[1:], *(("i64", distance) for distance, _ in self.moves)]


def emit_alone(text: Text, region: Region, index: str) -> str:
    """Run everything on the calling thread; the code."""
    if region.split.slice is not None:
        return text.call("i32", region.symbol, *region.arguments)
    end = region.extent
    if region.split.merges:
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
    for i, (type, operand) in enumerate(region.words):
        text.do(f"store {type} {operand}, ptr {_word(text, frame, i)}, align 8")
    scratch = region.split.slice.bytes if region.split.slice is not None else 0
    arguments = [("ptr", "%context"), ("ptr", f"@{task}"), ("ptr", frame)]
    sizes = [region.extent, region.grain, region.work, str(scratch)]
    code = text.call("i32", "symgraph.parallel", *arguments, *(("i64", size) for size in sizes))
    if not region.split.merges:
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
    text, part = Text(), region.split.slice
    given = [(type, _loaded(text, type, i)) for i, (type, _) in enumerate(region.words)]
    arguments = given[: len(region.arguments) - 1]
    if part is None:
        arguments += [("i64", "%begin"), ("i64", "%end")]
    else:
        distances = [operand for _, operand in given[len(arguments) :]]
        arguments = _sliced(text, arguments, part, distances, region)
    code = text.call("i32", region.symbol, ("ptr", "%context"), *arguments)
    text.do(f"ret i32 {code}")
    parameters = "ptr %context, ptr %frame, i64 %begin, i64 %end, ptr %scratch"
    head = f"define internal i32 @{name}({parameters}) nounwind {{\nentry:"
    text.lines = [head, *text.lines, "}"]
    return text


def _sliced(
    text: Text, arguments: list[Operand], part: Slice, distances: list[str], region: Region
) -> list[Operand]:
    """The arguments of a kernel that does units %begin up to %end.

    A unit alone takes the one before along, which is done twice then, and alike: a kernel may take
    sums in another order if there is one unit in all.
    """
    size = text.value("sub i64 %end, %begin")
    single = text.value(f"icmp eq i64 {size}, 1")
    inside = text.value("icmp sgt i64 %begin, 0")
    back = text.value(f"zext i1 {text.value(f'and i1 {single}, {inside}')} to i64")
    first = text.value(f"sub i64 %begin, {back}")
    size = text.value(f"add i64 {size}, {back}")
    result = list(arguments)
    for i, (distance, (_, bytes)) in enumerate(zip(distances, region.moves)):
        moved = text.value(f"mul i64 {first}, {distance}")
        at = f"getelementptr [{bytes} x i8], ptr {arguments[i][1]}, i64 {moved}"
        result[i] = ("ptr", text.value(at))
    if part.scratch >= 0:
        mine = text.value("icmp eq ptr %scratch, null")
        own = f"select i1 {mine}, ptr {arguments[part.scratch][1]}, ptr %scratch"
        result[part.scratch] = ("ptr", text.value(own))
    result[len(region.moves) + part.size] = ("i64", size)
    if part.before >= 0:
        result[len(region.moves) + part.before] = ("i64", first)
    return result


def _loaded(text: Text, type: str, i: int) -> str:
    return text.value(f"load {type}, ptr {_word(text, '%frame', i)}, align 8")


def _word(text: Text, frame: str, i: int) -> str:
    return text.value(f"getelementptr i8, ptr {frame}, i64 {WORD * i}") if i else frame
