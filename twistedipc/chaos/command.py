"""The command `twistedipc chaos`."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path
from typing import cast

import click
from rich.console import Console
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure as TwistedFailure

from twistedipc.chaos import report
from twistedipc.chaos.experiment import ChaosReactor, Experiment
from twistedipc.chaos.outcome import Options, Outcome
from twistedipc.chaos.plan import FaultKind
from twistedipc.cli.failures import ExitCode
from twistedipc.cli.output import note, whole_json_option
from twistedipc.taps.common import installed_reactor

#: Threads for everything that blocks.
THREADS = 60


@click.command()
@click.option("--seed", type=int, help="The faults' seed; the same seed injects the same faults. [default: a new one]")
@click.option("--rounds", type=click.IntRange(min=1), help="How many faults. [default: 30]")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="Faults for so long, instead.")
@click.option("--builds", type=click.IntRange(1, 50), default=2, show_default=True, help="Builds at a time.")
@click.option("--viewers", type=click.IntRange(1, 500), default=3, show_default=True, help="Viewers of each build.")
@click.option("--lines", type=click.IntRange(min=1), default=1500, show_default=True, help="Lines of each build.")
@click.option(
    "--fault",
    "kinds",
    multiple=True,
    type=click.Choice([kind.value for kind in FaultKind]),
    help="Only faults of this kind; may be repeated.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="An empty folder, which stays. [default: a new one]",
)
@click.option(
    "--database",
    default="",
    metavar="own|postgresql://…",
    help="The ledger is on PostgreSQL: one of the experiment's own, which is killed and frozen too, or an empty "
    "database, in which it stays. [default: SQLite]",
)
@whole_json_option
@click.pass_context
def chaos(
    context: click.Context,
    seed: int | None,
    rounds: int | None,
    minutes: float | None,
    builds: int,
    viewers: int,
    lines: int,
    kinds: tuple[str, ...],
    data: Path | None,
    database: str,
    as_json: bool,
) -> None:
    """Prove that nothing is lost: kill, cut, stop and stall both services while builds run and viewers watch.

    The command starts services of its own on this machine, in a folder of its own, which stays if anything goes
    wrong. Exits with 0 only if no line and no build was lost, doubled or reordered, no build was started twice, and
    all else that is counted is as it must be.
    """
    seed = random.SystemRandom().randrange(1 << 31) if seed is None else seed
    note(f"seed {seed}")
    temporary = None
    if data is None:
        temporary = Path(tempfile.mkdtemp(prefix="chaos-"))
        data = temporary / "platform"
    options = Options(
        folder=data.absolute(),
        seed=seed,
        rounds=rounds if rounds is not None or minutes is not None else 30,
        seconds=None if minutes is None else minutes * 60,
        builds=builds,
        viewers=viewers,
        lines=lines,
        kinds=tuple(FaultKind(kind) for kind in kinds) or tuple(FaultKind),
        database=database,
    )
    keep = True
    try:
        outcome = _run(options)
        keep = not outcome.good
    except KeyboardInterrupt:
        keep = False
        raise
    finally:
        if temporary is None or keep:
            note(f"the platform's folder is {options.folder}")
        else:
            shutil.rmtree(temporary, ignore_errors=True)
    if as_json:
        click.echo(report.as_json(outcome))
    else:
        report.show(outcome, Console())
    context.exit(ExitCode.OK if outcome.good else ExitCode.NOT_SUCCEEDED)


def _run(options: Options) -> Outcome:
    """Run the experiment on the reactor, to its end. Raises what it raises."""
    reactor = installed_reactor()
    # Some ask for a long time, while services are stopped or locked out: the command doesn't wait for them.
    cast(ChaosReactor, reactor).suggestThreadPoolSize(THREADS)
    results: list[Outcome | TwistedFailure] = []

    experiment = Experiment(cast(ChaosReactor, reactor), options)

    def begin() -> None:
        running = Deferred.fromCoroutine(experiment.run())
        running.addBoth(results.append)
        running.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    if not results:
        # Ctrl-C has stopped the reactor.
        experiment.abandon()
        raise KeyboardInterrupt
    (result,) = results
    if isinstance(result, TwistedFailure):
        result.raiseException()
        raise AssertionError("unreachable: raiseException raises")
    return result
