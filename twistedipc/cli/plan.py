"""`twistedipc plan`: which machines so many builds need, reckoned from what was measured (``costs``)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import click
import msgspec

from twistedipc.cli import costs
from twistedipc.cli.output import print_fields, whole_json_option

_DAY = 86_400

#: How much of a core one apiserver is planned to use: it has one reactor, and bursts come on top.
APISERVER_SHARE = 0.6

#: How much of a builder's machine the builds are planned to use.
BUILDER_SHARE = 0.8


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be borne, as somebody says it or as it is assumed."""

    builds: int  # a day
    lines: int  # of each
    seconds: float = 120.0  # that a build takes
    peak: float = 3.0  # builds of the busiest hour, against an hour of the day's average
    viewers: float = 1.0  # of each running build
    step_cores: float = 1.0  # that a build's own commands keep busy
    step_mib: int = 1500  # that they take
    archive_mib: float = 5.0  # of what a build makes, compressed
    keep_logs: int = 90  # days
    keep_archives: int = 30
    cores: int = 8  # of one machine for builds
    memory_gib: int = 32


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """What that needs."""

    builds_a_second: float  # in the busiest hour
    running: int  # builds at once then
    lines_a_second: float
    cores: Mapping[str, float]  # of our own processes, by process
    apiservers: int
    builders: int  # machines
    slots: int  # of each
    database: str
    disk_gib: Mapping[str, float]
    memory_mib: Mapping[str, float]  # of one apiserver, and of one builder's machine
    assumptions: list[str]


def work(*, running: float, lines: float, viewers: float, started: float, apiservers: int = 1) -> dict[str, float]:
    """
    Return how many cores each kind of our processes keeps busy, as `bench.cost.model` reckons it.

    :param running: builds at once
    :param lines: a second, of each of them
    :param viewers: of each of them
    :param started: builds that begin in a second
    """
    messages = min(lines, costs.MOST_MESSAGES)
    counts = {
        costs.SECOND: float(apiservers),
        costs.COMMIT: min(running * messages, apiservers * costs.MOST_COMMITS),
        costs.MESSAGE: running * messages,
        costs.LINE: running * lines,
        costs.FRAME: running * messages * viewers,
        costs.SENT: running * lines * viewers * costs.LINE_KIB,
        costs.BUILD_SECOND: running,
    }
    return {
        process: sum(counts[term] * price for term, price in prices.items()) / 1e6
        + started * costs.BUILD[process] / 1000
        for process, prices in costs.PRICES.items()
    }


def bill(load: Load) -> Bill:
    """Return what a load needs."""
    started = load.builds / _DAY * load.peak
    running = started * load.seconds
    apiservers = 1
    while True:
        needed = work(
            running=running,
            lines=load.lines / load.seconds,
            viewers=load.viewers,
            started=started,
            apiservers=apiservers,
        )
        enough = max(1, math.ceil(needed["apiserver"] / APISERVER_SHARE))
        if enough <= apiservers:
            break
        apiservers += 1
    ours = (needed["builder"] + needed["runners"]) / max(running, 1e-9)  # of a build
    by_cores = load.cores * BUILDER_SHARE / (load.step_cores + ours)
    by_memory = (load.memory_gib * 1024 * BUILDER_SHARE - costs.BUILDER_MIB) / (load.step_mib + costs.RUNNER_MIB)
    slots = max(1, int(min(by_cores, by_memory)))
    sealed = load.builds * load.keep_logs * (costs.BUILD_BYTES + load.lines * costs.SEALED_LINE_BYTES)
    return Bill(
        builds_a_second=started,
        running=math.ceil(running),
        lines_a_second=started * load.lines,
        cores=needed,
        apiservers=apiservers,
        builders=max(1, math.ceil(running / slots)),
        slots=slots,
        database="SQLite" if apiservers == 1 else "PostgreSQL",
        disk_gib={
            "ledger and sealed logs": sealed / (1 << 30),
            "logs of what runs": running * load.lines * costs.LINE_BYTES / (1 << 30),
            "archives": load.builds * load.keep_archives * load.archive_mib / 1024,
        },
        memory_mib={
            "apiserver": costs.APISERVER_MIB + running * load.viewers / apiservers * costs.VIEWER_KIB / 1024,
            "builder": costs.BUILDER_MIB + slots * (costs.RUNNER_MIB + load.step_mib),
        },
        assumptions=_assumptions(load),
    )


def _assumptions(load: Load) -> list[str]:
    return [
        f"a build takes {load.seconds:g} s (--seconds), and prints its {load.lines:,} lines evenly, of 200 bytes each",
        f"the busiest hour has {load.peak:g} times the builds of an average one (--peak)",
        f"viewers of each build that runs: {load.viewers:g} (--viewers)",
        f"a build's own commands keep {load.step_cores:g} cores busy and take {load.step_mib:,} MiB (--step-cores, "
        "--step-memory): nothing decides more than this, and it is not measured here but yours to say",
        f"an archive has {load.archive_mib:g} MiB (--archive), is kept for {load.keep_archives} days, and a log for "
        f"{load.keep_logs} (--keep-archives, --keep-logs); files that archives share are counted each time",
        f"a machine for builds has {load.cores} cores and {load.memory_gib} GiB (--cores, --memory), of which builds "
        f"get {BUILDER_SHARE:.0%}; an apiserver is filled to {APISERVER_SHARE:.0%} of a core",
        f"what our processes cost was measured on {costs.MEASURED} on 2 cores with SQLite (docs/performance.md, What a "
        "machine needs); what PostgreSQL itself uses isn't in it, nor is it measured how several apiservers share one",
    ]


@click.command()
@click.option("--builds", type=click.IntRange(1), required=True, metavar="N", help="Builds a day.")
@click.option("--lines", type=click.IntRange(0), required=True, metavar="N", help="Lines that each prints.")
@click.option("--seconds", type=click.FloatRange(1), default=120.0, show_default=True, help="That a build takes.")
@click.option("--peak", type=click.FloatRange(1), default=3.0, show_default=True, help="Busiest hour against average.")
@click.option("--viewers", type=click.FloatRange(0), default=1.0, show_default=True, help="Of each running build.")
@click.option(
    "--step-cores", type=click.FloatRange(0.01), default=1.0, show_default=True, help="Of a build's commands."
)
@click.option(
    "--step-memory", "step_mib", type=click.IntRange(1), default=1500, show_default=True, help="MiB, likewise."
)
@click.option("--archive", "archive_mib", type=click.FloatRange(0), default=5.0, show_default=True, help="MiB of each.")
@click.option("--keep-logs", type=click.IntRange(0), default=90, show_default=True, help="Days.")
@click.option("--keep-archives", type=click.IntRange(0), default=30, show_default=True, help="Days.")
@click.option("--cores", type=click.IntRange(1), default=8, show_default=True, help="Of one machine for builds.")
@click.option("--memory", "memory_gib", type=click.IntRange(1), default=32, show_default=True, help="GiB, likewise.")
@whole_json_option
def plan(as_json: bool, **said: float) -> None:
    """Reckon which machines so many builds a day need, from what was measured. Asks no server.

    What it assumes is printed too: a build's own commands are most of it, and only you know them.
    """
    load = msgspec.convert(said, Load)
    found = bill(load)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins({"load": load, "needs": found}), indent=2))
        return
    print_fields(
        [
            ("at the busiest", f"{found.builds_a_second:.2f} builds/s, {found.running:,} at once, "
             f"{found.lines_a_second:,.0f} lines/s"),
            ("apiservers", f"{found.apiservers} ({found.cores['apiserver']:.2f} cores in all), on {found.database}"),
            ("machines for builds", f"{found.builders}, with {found.slots} slots each"),
            ("our part of them", f"{found.cores['builder'] + found.cores['runners']:.2f} cores in all"),
            ("memory", ", ".join(f"{name} {size:,.0f} MiB" for name, size in found.memory_mib.items())),
            ("disk", ", ".join(f"{name} {size:,.1f} GiB" for name, size in found.disk_gib.items())),
        ]
    )  # fmt: skip
    click.echo("\nassumed:")
    for each in found.assumptions:
        click.echo(f"- {each}")
