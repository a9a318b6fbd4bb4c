"""Small words of a generated entry: loads, stores, and checks that leave the fast way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .irtext import Text

LIKELY = ", !prof !0"
WEIGHTS = '!0 = !{!"branch_weights", i32 4000, i32 1}'


class Words:
    """A function under construction with fields at byte offsets and a place where checks lead."""

    def __init__(self) -> None:
        self.text = Text()
        self.leave = "slow"  # the block a failed check goes to
        self.rare: list[str] = []  # lines behind the way that most calls take

    @contextmanager
    def _aside(self, label: str) -> Iterator[None]:
        """A block out of the way; code lies as it is written, since no pass of LLVM's moves it."""
        usual, self.text.lines = self.text.lines, self.rare
        self.text.start(label)
        yield
        self.text.lines = usual

    def _at(self, pointer: str, byte: int) -> str:
        return (
            pointer if not byte else self.text.value(f"getelementptr i8, ptr {pointer}, i64 {byte}")
        )

    def _load(self, type: str, pointer: str, byte: int) -> str:
        return self.text.value(f"load {type}, ptr {self._at(pointer, byte)}")

    def _store(self, type: str, value: str, pointer: str, byte: int) -> None:
        self.text.do(f"store {type} {value}, ptr {self._at(pointer, byte)}")

    def _need(self, good: str, otherwise: str | None = None) -> None:
        """Go on if the flag holds, else leave."""
        go_on = self.text.label("go")
        self.text.fork(good, go_on, otherwise or self.leave, LIKELY)
        self.text.start(go_on)

    def _same(self, type: str, a: str, b: str) -> str:
        return self.text.value(f"icmp eq {type} {a}, {b}")
