"""
One attempt's folder: the contract on disk between the builder and the runner.

The builder makes ``attempts/ATTEMPT-LEASE/`` and the runner works in it. Neither needs the other to be alive:
what they say to one another are files, written by `disk.files.write_file` (whole or not at all), and two bells that may
be lost without harm.

::

    spec.json      Spec, by the builder: what to do. Written before `accept` is sent.
    starting       by the builder, empty: written before the runner is spawned; a runner is spawned once or never
    lock           flock'ed exclusively by the runner (inherited from the builder, so there is no moment
                   without it): held = the runner lives
    runner.err     the runner's own stderr; empty unless it broke
    journal/       NNNNNNNNNNNN.log, named by their first record's number (`journal_line`)
    control        a FIFO that the runner reads: any byte means "look at the files"
    cancel         Cancel, by the builder
    permit         Permit, by the builder, after the runner asked: read by the runner, then deleted by it
    permit.wanted  PermitWanted, by the runner: it waits for `permit`
    checkout.json  Checkout, by the checkout step
    plan.json      builds.plan.Plan, by the runner after the checkout
    package.json   Package, by the pack step, for the target npm (if there is a package to publish); for each other
                   target `package_file`
    archive.tar.gz manifest.json artifact.json    by the pack step: what was built (publish/archive.py); ArtifactFile
    public-names.json  PublicNames, by the pack step: what strangers could read in what is packed, without opening it
    published.json list of Published, by the publish step
    failure.json   Failure, by a step of the platform's own that failed: why, in a sentence
    result.json    Result, by the runner as its last act (or by the builder in the name of a runner that died)
    work/          the working copy        home/ tmp/    HOME and TMPDIR of the steps
    bin/           the `node` and the `twistedipc-say` that the build's steps find first
    channel        the UNIX socket on which the step that runs can say something

The runner's bell to the builder is a datagram to the UNIX socket `Spec.doorbell`, sent after each append.
"""

from __future__ import annotations

from pathlib import Path

from twistedipc.builds.attempt import NPM, Failure
from twistedipc.disk.files import write_file


def package_file(target: str) -> str:
    """The name of the file with the `Package` for a target."""
    return "package.json" if target == NPM else f"package.{target}.json"


def step_failed(folder: Path, error: Exception) -> int:
    """
    What a step of the platform's own does when it has failed: says why, in the log and in failure.json, for the people
    who read it. Its exit code. On a disk that takes nothing the log alone has it.
    """
    print(error, flush=True)
    try:
        write_file(folder / "failure.json", Failure(reason=str(error)))
    except OSError as unwritten:
        print(f"failure.json can't be written: {unwritten.strerror}", flush=True)
    return 1
