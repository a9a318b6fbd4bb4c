"""The cache: damage, failing file systems and races read as "not there", never as wrong bytes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from symgraph.backends import cache

DATA = bytes(range(256)) * 8


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test, and nothing remembered from the last."""
    monkeypatch.setenv("SYMGRAPH_CACHE", str(tmp_path / "cache"))
    forget()
    return tmp_path / "cache"


def forget() -> None:
    """As in a new process."""
    cache._memory.clear()
    cache._memory_bytes = 0
    cache._warned = False


def entry(folder: Path) -> Path:
    (file,) = (p for p in folder.rglob("*") if p.is_file())
    return file


def test_put_get() -> None:
    key = cache.key("text", "cpu")
    assert cache.get(key) is None
    cache.put(key, DATA)
    assert cache.get(key) == DATA
    forget()
    assert cache.get(key) == DATA
    assert cache.get(cache.key("other")) is None


def test_keys_separate_their_parts() -> None:
    keys = [cache.key(*p) for p in (("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), (b"abc",))]
    assert len(set(keys)) == 4 and keys[2] == keys[4]
    assert cache.key("é") == cache.key("é".encode())


def test_empty_entry() -> None:
    cache.put(cache.key("e"), b"")
    forget()
    assert cache.get(cache.key("e")) == b""


def test_every_flipped_bit_is_seen(folder: Path) -> None:
    key = cache.key("k")
    cache.put(key, b"small object")
    path = entry(folder)
    good = path.read_bytes()
    for bit in range(8 * len(good)):
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        forget()
        assert cache.get(key) is None, bit
        assert not path.exists()


def test_every_truncation_and_tail_is_seen(folder: Path) -> None:
    key = cache.key("k")
    cache.put(key, b"small object")
    path = entry(folder)
    good = path.read_bytes()
    for content in [good[:i] for i in range(len(good))] + [good + b"x", good + good]:
        path.write_bytes(content)
        forget()
        assert cache.get(key) is None
    cache.put(key, DATA)
    forget()
    assert cache.get(key) == DATA


def test_a_folder_in_place_of_an_entry(folder: Path) -> None:
    key = cache.key("k")
    cache.put(key, DATA)
    path = entry(folder)
    path.unlink()
    path.mkdir()
    forget()
    assert cache.get(key) is None
    with pytest.warns(RuntimeWarning, match="cache on disk is off"):
        cache.put(key, DATA)
    assert cache.get(key) == DATA  # from memory


def test_disk_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    key = cache.key("k")
    monkeypatch.setattr(os, "replace", no_space)
    with pytest.warns(RuntimeWarning, match="No space left on device"):
        cache.put(key, DATA)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        cache.put(cache.key("other"), DATA)
    assert cache.get(key) == DATA
    forget()
    assert cache.get(key) is None
    assert not [p for p in folder.rglob("*") if p.is_file()]  # no rubbish left behind


def test_write_cut_short_by_the_system(folder: Path) -> None:
    """A real limit on file size: the entry is not there and the process goes on."""
    code = (
        "import resource, signal, warnings\n"
        "from symgraph.backends import cache\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    for i in range(3): cache.put(cache.key(str(i)), b'x' * 5000)\n"
        "cache._memory.clear()\n"
        "print(len(seen), cache.get(cache.key('0')), cache.info()['entries'])"
    )
    assert run(code) == "1 None 0"


def run(code: str, **environment: str | None) -> str:
    """The output of a Python program, with environment variables set or (None) removed."""
    variables = dict(os.environ)
    for name, value in environment.items():
        if value is None:
            variables.pop(name, None)
        else:
            variables[name] = value
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=variables
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


USE = (
    "import warnings\n"
    "from symgraph.backends import cache\n"
    "with warnings.catch_warnings(record=True) as seen:\n"
    "    warnings.simplefilter('always')\n"
    "    key = cache.key('k'); cache.put(key, b'data'); cache.put(cache.key('l'), b'more')\n"
    "    kept = cache.get(key); cache._memory.clear()\n"
    "    print(kept, cache.get(key), len(seen), cache.info()['folder'])"
)


def test_no_home(tmp_path: Path) -> None:
    """No HOME, and a user that the password file does not know."""
    script = (
        "import pathlib\n"
        "def home(): raise RuntimeError('Could not determine home directory.')\n"
        "pathlib.Path.home = home\n"
    )
    out = run(script + USE, SYMGRAPH_CACHE=None, XDG_CACHE_HOME=None, HOME=None)
    assert out == "b'data' None 1 None"


def test_default_folders(tmp_path: Path) -> None:
    out = run(USE, SYMGRAPH_CACHE=None, XDG_CACHE_HOME=str(tmp_path / "xdg"))
    assert out == f"b'data' b'data' 0 {tmp_path}/xdg/symgraph/v1"
    out = run(USE, SYMGRAPH_CACHE=None, XDG_CACHE_HOME=None, HOME=str(tmp_path))
    assert out == f"b'data' b'data' 0 {tmp_path}/.cache/symgraph/v1"


def inside(folder: Path) -> str:
    """Code that goes into a folder, and still imports this very package."""
    return f"import os, sys; sys.path.insert(0, os.getcwd()); os.chdir({str(folder)!r})\n"


@pytest.mark.parametrize("word", ["0", "off", "none", "OFF", " None "])
def test_switched_off(word: str, tmp_path: Path) -> None:
    out = run(inside(tmp_path) + USE, SYMGRAPH_CACHE=word, HOME=str(tmp_path))
    assert out == "b'data' None 0 None"
    assert not list(tmp_path.iterdir())


def test_a_folder_may_be_called_off(tmp_path: Path) -> None:
    out = run(inside(tmp_path) + USE, SYMGRAPH_CACHE="./off")
    assert out == "b'data' b'data' 0 off/v1" and (tmp_path / "off").is_dir()


def test_unusable_folder(tmp_path: Path) -> None:
    """A file where the folder should be (permission bits do not stop root)."""
    (tmp_path / "file").write_text("")
    assert run(USE, SYMGRAPH_CACHE=str(tmp_path / "file")) == "b'data' None 1 None"


def test_read_only_folder_still_serves(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = cache.key("k")
    cache.put(key, DATA)
    os.utime(entry(folder), (0, 0))  # so old that its time of use would be refreshed
    forget()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EROFS, "Read-only file system")

    for name in ("utime", "unlink", "replace", "fsync"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.get(key) == DATA
    with pytest.warns(RuntimeWarning, match="Read-only file system"):
        cache.put(cache.key("new"), DATA)


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
def test_folder_that_anybody_may_write_is_refused(folder: Path) -> None:
    (folder / "v1").mkdir(parents=True)
    (folder / "v1").chmod(0o777)
    with pytest.warns(RuntimeWarning, match="writable by everybody"):
        cache.put(cache.key("k"), DATA)
    assert not list((folder / "v1").iterdir())


def test_size_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LIMIT", 20_000)
    for i in range(50):
        cache.put(cache.key(str(i)), DATA)
        assert cache.info()["bytes"] <= 20_000 + len(DATA) + 100
        os.utime(folder / "v1" / cache.key(str(i))[:2] / cache.key(str(i)), (i, i))
    forget()
    assert cache.get(cache.key("49")) == DATA  # the newest are there
    assert cache.get(cache.key("0")) is None  # the oldest are gone


def test_use_protects_from_eviction(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(cache, "LIMIT", 5 * len(DATA))
    keys = [cache.key(str(i)) for i in range(4)]
    for i, key in enumerate(keys):
        cache.put(key, DATA[: len(DATA) // 2])
        os.utime(folder / "v1" / key[:2] / key, (i, i))
    forget()
    assert cache.get(keys[0]) is not None  # refreshes it
    for i in range(6):  # the last one is too much
        cache.put(cache.key("more", str(i)), DATA[: len(DATA) // 2])
    forget()
    assert cache.get(keys[0]) is not None and cache.get(keys[1]) is None


def test_an_entry_larger_than_a_quarter_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LIMIT", 2 * len(DATA))
    cache.put(cache.key("k"), DATA)
    forget()
    assert cache.get(cache.key("k")) is None


def test_stale_temporary_files_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LIMIT", 16 * len(DATA))
    cache.put(cache.key("k"), DATA)
    left, fresh = entry(folder).parent / ".killed", entry(folder).parent / ".writing"
    left.write_bytes(b"half")
    fresh.write_bytes(b"half")
    os.utime(left, (0, 0))
    cache.put(cache.key("l"), DATA)
    assert not left.exists() and fresh.exists()


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MEMORY_LIMIT", 3 * len(DATA))
    for i in range(10):
        cache.put(cache.key(str(i)), DATA)
    assert list(cache._memory) == [cache.key(str(i)) for i in (7, 8, 9)]
    assert cache._memory_bytes == 3 * len(DATA)


def test_clear_and_info(folder: Path) -> None:
    for i in range(3):
        cache.put(cache.key(str(i)), DATA)
    info = cache.info()
    assert (info["folder"], info["entries"], info["in memory"]) == (str(folder / "v1"), 3, 3)
    cache.clear()
    assert cache.info()["entries"] == 0 and cache.get(cache.key("0")) is None


def test_cleared_while_an_entry_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def late(source: str, target: Path) -> None:
        cache.clear()  # takes the file that is being written along
        replace(source, target)

    monkeypatch.setattr(os, "replace", late)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put(cache.key(b"late"), b"data")
    monkeypatch.undo()
    assert not [p for p in folder.rglob("*") if p.is_file()]


def test_many_processes_write_and_die(folder: Path) -> None:
    """Writers of the same and other keys, some killed at random: every entry read is whole."""
    code = (
        "import sys, os, signal, random\n"
        "from symgraph.backends import cache\n"
        "seed = int(sys.argv[1]); random.seed(seed)\n"
        "if seed % 2: signal.setitimer(signal.ITIMER_REAL, 0.02 + random.random() / 10)\n"
        "for i in range(150):\n"
        "    key = cache.key(str(i % 30)); cache._memory.clear()\n"
        "    data = cache.get(key)\n"
        "    assert data is None or data == key.encode() * 200, 'wrong bytes'\n"
        "    cache.put(key, key.encode() * 200)\n"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code, str(i)]) for i in range(6)]
    codes = [w.wait(timeout=120) for w in workers]
    assert all(c == 0 for c in codes[::2])
    assert all(c in (0, -14) for c in codes[1::2])  # -14: ended by its timer
    for i in range(30):
        key = cache.key(str(i))
        assert cache.get(key) == key.encode() * 200
