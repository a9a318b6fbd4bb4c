"""What every test shares: hypothesis profiles, a private cache folder, the folder of real data."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# One empty cache for the whole run, never the user's own; workers of pytest-xdist inherit it.
_OWNED_CACHE = None
if "SYMGRAPH_CACHE" not in os.environ:
    _OWNED_CACHE = tempfile.mkdtemp(prefix="symgraph-test-cache-")
    os.environ["SYMGRAPH_CACHE"] = _OWNED_CACHE
os.environ.setdefault("MPLBACKEND", "Agg")

settings.register_profile(
    "ci",
    max_examples=30,
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("deep", settings.get_profile("ci"), max_examples=2000, derandomize=False)
settings.load_profile("ci")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--hypothesis-profile") == "deep":
        return
    skip = pytest.mark.skip(reason="deep test: run with --hypothesis-profile=deep")
    for item in items:
        if item.get_closest_marker("deep"):
            item.add_marker(skip)


def pytest_unconfigure() -> None:
    if _OWNED_CACHE is not None:
        shutil.rmtree(_OWNED_CACHE, ignore_errors=True)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets that SYMGRAPH_DATA names; without it the test is skipped."""
    folder = os.environ.get("SYMGRAPH_DATA")
    if not folder:
        pytest.skip("SYMGRAPH_DATA does not name a folder of data sets")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"SYMGRAPH_DATA={folder} is not a folder")
    return path
