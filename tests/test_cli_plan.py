"""`twistedipc plan`: what it reckons is what docs/performance.md says, and grows as it must."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties import examples
from twistedipc.cli import costs
from twistedipc.cli.plan import Load, bill, plan, work

PAGE = (Path(__file__).parent.parent / "docs" / "performance.md").read_text()


def test_the_prices_are_those_of_the_page() -> None:
    for process, prices in costs.PRICES.items():
        table = PAGE.split(f"\n{process}, CPU ms, by least squares:\n", 1)[1].split("The measurements differ", 1)[0]
        said = {
            name.strip(): float(price.replace(",", "")) for name, price in re.findall(r"\| (.+?) +\| ([\d.,]+)", table)
        }
        assert prices == {name: price for name, price in said.items() if price}


def test_the_bill_of_the_page_comes_out() -> None:
    """20 builds at once of 50 lines/s, 200 viewers, 10 builds begun in a minute."""
    found = work(running=20, lines=50, viewers=10, started=10 / 60)
    said = {name: int(share) / 100 for name, share in re.findall(r"\| \*\*(\w+)\*\* +\| +\| +\| \*\*(\d+)%\*\*", PAGE)}
    assert found == pytest.approx(said, abs=0.006)


@given(builds=st.integers(1, 1_000_000), lines=st.integers(0, 100_000), more=st.integers(1, 5))
@settings(max_examples=examples(50))
def test_more_needs_no_less(builds: int, lines: int, more: int) -> None:
    one, other = bill(Load(builds=builds, lines=lines)), bill(Load(builds=builds * more, lines=lines * more))
    assert one.apiservers <= other.apiservers
    assert one.builders <= other.builders
    assert sum(one.disk_gib.values()) <= sum(other.disk_gib.values())
    assert one.slots * one.builders >= one.running - 1


def test_the_command() -> None:
    said = CliRunner().invoke(plan, ["--builds", "100000", "--lines", "20000"])
    assert said.exit_code == 0, said.output
    assert "3.47 builds/s" in said.output
    assert "assumed:" in said.output
    assert costs.MEASURED in said.output
    whole = json.loads(CliRunner().invoke(plan, ["--builds", "100000", "--lines", "20000", "--json"]).output)
    assert whole["load"]["builds"] == 100000
    assert whole["needs"]["running"] == 417
    assert len(whole["needs"]["assumptions"]) == 7
