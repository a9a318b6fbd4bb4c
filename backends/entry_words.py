"""Small words of a generated entry: loads, stores, and checks that leave the fast way."""

from __future__ import annotations

from .irtext import Text

LIKELY = ", !prof !0"
WEIGHTS = '!0 = !{!"branch_weights", i32 4000, i32 1}'


class Words:
    """A function under construction with fields at byte offsets and a place where checks lead."""

    def __init__(self) -> None:
        self.text = Text()
        self.leave = "slow"  # the block a failed check goes to

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

    def _all(self, flags: list[str]) -> None:
        if flags:
            good = flags[0]
            for flag in flags[1:]:
                good = self.text.value(f"and i1 {good}, {flag}")
            self._need(good)

    def _same(self, type: str, a: str, b: str) -> str:
        return self.text.value(f"icmp eq {type} {a}, {b}")
