"""The cache of compiled code: bytes by content key; any damage reads as "not there".

A key is a hash of everything the bytes depend on, so an entry is never out of date, only absent.
Files are written to a temporary name and renamed, so that a reader sees all of an entry or none; a
header with length and checksum is verified before an entry is used, because LLVM crashes on a
damaged object, and a power failure may leave one: nothing waits for the disk. The folder is kept
below a size by removing what was not used for longest. Whatever fails (no home, no space, no
permission) costs one warning and the speed of the cache, never an answer.

    SYMGRAPH_CACHE=folder   keep entries there (./off for a folder that is called off)
    SYMGRAPH_CACHE=off      keep nothing on disk; 0 and none say the same
    otherwise               $XDG_CACHE_HOME/symgraph, or ~/.cache/symgraph
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LIMIT = 1 << 30  # bytes on disk
MEMORY_LIMIT = 64 << 20  # bytes kept in the process
OFF = frozenset({"0", "off", "none"})  # settings for no folder, in any case of letters
_FORMAT = "v1"  # name of the folder of this layout of entries; older ones can be deleted
_MAGIC = b"symgraph"
_HEADER = len(_MAGIC) + 8 + 32
_STALE_SECONDS = 3600.0  # a temporary file this old has lost its writer
_TOUCH_SECONDS = 600.0  # an entry's time of use is kept no finer than this

_lock = threading.Lock()
_memory: OrderedDict[str, bytes] = OrderedDict()
_memory_bytes = 0
_warned = False
_counts = {"memory hits": 0, "disk hits": 0, "misses": 0, "damaged": 0}


def key(*parts: str | bytes) -> str:
    """The name of an entry: SHA-256 over the parts, each preceded by its length."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def get(key: str) -> bytes | None:
    """The bytes stored under `key`, or None."""
    with _lock:
        data = _memory.get(key)
        if data is not None:
            _memory.move_to_end(key)
            _counts["memory hits"] += 1
            return data
    folder = _folder()
    data = _read(folder / key[:2] / key) if folder is not None else None
    with _lock:
        _counts["misses" if data is None else "disk hits"] += 1
    if data is not None:
        _remember(key, data)
    return data


def put(key: str, data: bytes) -> None:
    """Store bytes under `key`; an entry that is there already is replaced by the same content."""
    _remember(key, data)
    folder = _folder()
    if folder is None or len(data) > LIMIT // 4:
        return
    try:
        _write(folder / key[:2] / key, data)
        if _due(key, len(data)):
            _evict(folder)
    except FileNotFoundError:  # cleared while it was written: as if right after
        pass
    except OSError as error:
        _warn(f"cannot write to {folder}: {error}")


def clear() -> None:
    """Remove every entry, in memory and on disk."""
    global _memory_bytes
    with _lock:
        _memory.clear()
        _memory_bytes = 0
    folder = _folder()
    if folder is not None:
        for file in _files(folder):
            _remove(file.path)


def info() -> dict[str, object]:
    """Folder, entries, bytes and limit of the cache, and this process's hits and misses."""
    folder = _folder()
    files = list(_files(folder)) if folder is not None else []
    return {
        "folder": str(folder) if folder is not None else None,
        "entries": len(files),
        "bytes": sum(f.size for f in files),
        "limit": LIMIT,
        "in memory": len(_memory),
        **_counts,
    }


def _remember(key: str, data: bytes) -> None:
    global _memory_bytes
    with _lock:
        old = _memory.pop(key, b"")
        _memory[key] = data
        _memory_bytes += len(data) - len(old)
        while _memory_bytes > MEMORY_LIMIT and len(_memory) > 1:
            _, dropped = _memory.popitem(last=False)
            _memory_bytes -= len(dropped)


def _folder() -> Path | None:
    """The folder of entries, made if need be; None if there is to be none or none works."""
    setting = os.environ.get("SYMGRAPH_CACHE", "").strip()
    if setting.lower() in OFF:
        return None
    try:
        folder = _base(setting) / _FORMAT
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(folder)
        return folder
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        _warn(str(error))
        return None


def _base(setting: str) -> Path:
    if setting:
        return Path(setting).expanduser()
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "symgraph"


def _check_owner(folder: Path) -> None:
    """Entries are machine code: a folder where anybody may write is refused."""
    mode = folder.stat().st_mode
    if os.name == "posix" and mode & stat.S_IWOTH:
        raise PermissionError(f"{folder} is writable by everybody")


def _read(path: Path) -> bytes | None:
    """An entry's content if it is whole; a damaged file is removed."""
    try:
        with open(path, "rb") as file:
            entry = file.read()
            age = time.time() - os.fstat(file.fileno()).st_mtime
    except OSError:
        return None
    data = _unwrap(path.name, entry)
    if data is None:
        with _lock:
            _counts["damaged"] += 1
        _remove(path)
    elif age > _TOUCH_SECONDS:
        with contextlib.suppress(OSError):  # a read-only cache still serves
            os.utime(path)
    return data


def _wrap(key: str, data: bytes) -> bytes:
    """An entry as it is on disk; the checksum covers the key, so a renamed file is damaged."""
    digest = hashlib.sha256(key.encode() + data).digest()
    return _MAGIC + len(data).to_bytes(8, "little") + digest + data


def _unwrap(key: str, entry: bytes) -> bytes | None:
    data = entry[_HEADER:]
    return data if entry[:_HEADER] == _wrap(key, data)[:_HEADER] else None


def _write(path: Path, data: bytes) -> None:
    import tempfile  # here: reading needs none of what it loads

    path.parent.mkdir(mode=0o700, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(_wrap(path.name, data))
        os.replace(temporary, path)
    except BaseException:
        _remove(temporary)
        raise


def _remove(path: str | Path) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


class _File(NamedTuple):
    path: str
    size: int
    used: float


def _files(folder: Path) -> Iterator[_File]:
    """All files of the cache; those that vanish meanwhile are left out."""
    with contextlib.suppress(OSError):
        for shelf in os.scandir(folder):
            with contextlib.suppress(OSError):
                for file in os.scandir(shelf.path):
                    with contextlib.suppress(OSError):
                        status = file.stat(follow_symlinks=False)
                        yield _File(file.path, status.st_size, status.st_mtime)


def _due(key: str, size: int) -> bool:
    """Whether this write looks at the size of the whole: about once in 1/64 of the limit.

    Keys are uniform hashes, so they serve as the coin; no counter has to be shared among processes.
    """
    return int(key[:8], 16) / (1 << 32) < 64 * size / LIMIT


def _evict(folder: Path) -> None:
    """Remove files, the longest unused first, until the cache is well below its limit."""
    now, files = time.time(), []
    for file in _files(folder):
        if os.path.basename(file.path).startswith("."):
            if now - file.used > _STALE_SECONDS:
                _remove(file.path)
        else:
            files.append(file)
    total = sum(f.size for f in files)
    if total <= LIMIT:
        return
    for file in sorted(files, key=lambda f: f.used):
        if total <= LIMIT * 9 // 10:
            break
        _remove(file.path)
        total -= file.size


def _warn(what: str) -> None:
    """Say once in a process that the disk cache does not work."""
    global _warned
    with _lock:
        if _warned:
            return
        _warned = True
    warnings.warn(
        f"symgraph's cache on disk is off: {what} (set SYMGRAPH_CACHE to a folder, or to off)",
        RuntimeWarning,
        stacklevel=2,
    )
