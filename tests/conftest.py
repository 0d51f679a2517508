"""
What holds for all tests. Where everything that tests need is installed (``.ci/run``), ``TWISTEDIPC_TESTS_NO_SKIP=1``
makes a test that skips itself a failure: nothing is to go untested there without anyone noticing. Only what no
installation can give (a kernel's permission) may be missing there too; its reason begins with `NOT_ON_THIS_MACHINE`.

Hypothesis' deadline is off for all tests: it measures wall-clock time, which on a busy machine says nothing about the
code. ``TWISTEDIPC_TESTS_EXAMPLES=10`` tries ten times as many examples (``make thorough``).

No test waits for the disk (``disk``).

On PostgreSQL (``databases``) only what has a ledger is run, and not what is marked ``sqlite``.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from functools import cache
from pathlib import Path

import hypothesis
import pytest

from tests import databases, disk
from tests.properties import FACTOR, examples

# The same examples each time: what fails then, fails because of what was changed. Others where many are tried.
hypothesis.settings.register_profile("twistedipc", deadline=None, max_examples=examples(50), derandomize=FACTOR == 1)
hypothesis.settings.load_profile("twistedipc")

disk.wait_for_none()

NOT_ON_THIS_MACHINE = "not on this machine: "
NO_SKIP = os.environ.get("TWISTEDIPC_TESTS_NO_SKIP", "") not in ("", "0")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """
    Called by pytest around its look for tests. What that makes stays to the end: it isn't looked through for garbage,
    while it grows nor later. That is a third of the time to find thousands of tests, in each worker.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


#: How a test is marked that only `make test-long` runs, in the text of its file.
LONG = b"mark.long"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """
    Called by pytest before it looks into a file or a folder. Where only the long tests are wanted, a file without any
    isn't looked into: to find thousands of tests that aren't run takes each worker half a minute.
    """
    is_file = collection_path.suffix == ".py" and collection_path.name.startswith("test_")
    if config.option.markexpr == "long" and is_file and LONG not in collection_path.read_bytes():
        return True
    return None


@cache
def _says_long(path: Path) -> bool:
    return LONG in path.read_bytes()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Called by pytest for each test. A long one whose file doesn't say so in these words would never be run."""
    if item.get_closest_marker("long") is not None and not _says_long(item.path):
        raise pytest.UsageError(f"{item.nodeid}: say pytest.mark.long in its file, or make test-long won't find it")


#: Those of which a test module has something, if it has a ledger.
WITH_LEDGERS = frozenset({"tests.storage_fixtures", "tests.instant", "tests.apiserver_world", "tests.web_world"})


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Called by pytest with what it has found."""
    if not databases.ON_POSTGRESQL:
        return
    chosen = [item for item in items if item.get_closest_marker("sqlite") is None and _has_ledger(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = chosen


@cache
def _of_module(module: object) -> bool:
    return any(getattr(each, "__module__", None) in WITH_LEDGERS for each in vars(module).values())


def _has_ledger(item: pytest.Item) -> bool:
    module = item.getparent(pytest.Module)
    return module is not None and _of_module(module.obj)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Called by pytest after each phase of each test."""
    report = yield
    if NO_SKIP and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if reason.removeprefix("Skipped: ").startswith(NOT_ON_THIS_MACHINE):
            return report
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} skipped itself where nothing may be skipped: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Called by pytest after it has looked into a file; a whole file may skip itself."""
    report = yield
    if NO_SKIP and report.outcome == "skipped":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} skipped itself where nothing may be skipped: {reason}"
    return report
