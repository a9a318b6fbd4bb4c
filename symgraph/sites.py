"""The user's line: which one an expression comes from, and how messages show it."""

from __future__ import annotations

import linecache
import os
import sys
import threading
from typing import Any

Site = tuple[str, int]  # file name, line number

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_ROOTS = tuple(
    root + os.sep
    for folder in ("", "optim", "backends", "nn")
    for root in {
        os.path.join(_HERE, folder).rstrip(os.sep),
        os.path.realpath(os.path.join(_HERE, folder)),
    }
)
_TRACE = os.environ.get("SYMGRAPH_TRACE", "1") != "0"
_internal: dict[str, bool] = {}
_inherited = threading.local()


def user_site() -> Site | None:
    """File and line of the innermost frame outside symgraph (None with SYMGRAPH_TRACE=0)."""
    frame = sys._getframe(1) if _TRACE else None
    while frame is not None:
        path = frame.f_code.co_filename
        internal = _internal.get(path)
        if internal is None:
            internal = _internal[path] = os.path.abspath(path).startswith(_ROOTS)
        if not internal:
            return (path, frame.f_lineno)
        frame = frame.f_back
    return None


def default_site() -> Site | None:
    """The site of a new node: what `at_site` says, else the user's line."""
    site = getattr(_inherited, "site", None)
    return site if site is not None else user_site()


class at_site:
    """`with at_site(node.site):` new nodes get this site instead of the current line.

    For nodes made on behalf of others: derivatives, rewrites.
    """

    __slots__ = ("_site", "_before")

    def __init__(self, site: Site | None):
        self._site = site

    def __enter__(self) -> None:
        self._before = getattr(_inherited, "site", None)
        _inherited.site = self._site

    def __exit__(self, *_: Any) -> None:
        _inherited.site = self._before


def show_site(site: Site) -> str:
    """`train.py:21   h = x @ W`: the path and, if it can be read, the source line.

    The path is relative to here where that is shorter.
    """
    path, line = site
    text = linecache.getline(path, line).strip()
    relative = os.path.relpath(path) if os.path.isabs(path) else path
    place = f"{relative if len(relative) < len(path) else path}:{line}"
    return f"{place}   {text}" if text else place
