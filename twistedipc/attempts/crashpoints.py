"""
Named points at which a process can be made to die, for the tests that try each of them. Called by the builder and the
server at each durable write, commit and send on an attempt's path.

``TWISTEDIPC_CRASH_AT=NAME`` in a process's environment kills the process (SIGKILL, so that nothing is tidied up) when
it first reaches that point; ``NAME#7`` when it reaches it for the seventh time. Only tests set the variable; without
it, a point costs one comparison.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, Protocol

VARIABLE: Final = "TWISTEDIPC_CRASH_AT"


class CrashPoint(StrEnum):
    """The points, in the order in which an attempt reaches them. The first word names the process that dies."""

    APISERVER_BUILDER_TAKEN = "apiserver:builder-taken"
    APISERVER_BUILDERS_ADOPTED = "apiserver:builders-adopted"
    APISERVER_DUTY_TAKEN = "apiserver:duty-taken"
    APISERVER_OFFER_COMMITTED = "apiserver:offer-committed"
    APISERVER_OFFER_SENT = "apiserver:offer-sent"
    BUILDER_OFFER_RECEIVED = "builder:offer-received"
    BUILDER_SPEC_WRITTEN = "builder:spec-written"
    BUILDER_ACCEPT_SENT = "builder:accept-sent"
    APISERVER_ACCEPT_RECEIVED = "apiserver:accept-received"
    APISERVER_ACCEPT_COMMITTED = "apiserver:accept-committed"
    APISERVER_GO_SENT = "apiserver:go-sent"
    BUILDER_GO_RECEIVED = "builder:go-received"
    BUILDER_START_WRITTEN = "builder:start-written"
    BUILDER_RUNNER_SPAWNED = "builder:runner-spawned"
    BUILDER_STARTED_SENT = "builder:started-sent"
    APISERVER_STARTED_COMMITTED = "apiserver:started-committed"
    BUILDER_LOG_SENT = "builder:log-sent"
    APISERVER_LOG_RECEIVED = "apiserver:log-received"
    APISERVER_LOG_COMMITTED = "apiserver:log-committed"
    APISERVER_ACK_SENT = "apiserver:ack-sent"
    BUILDER_ACK_RECEIVED = "builder:ack-received"
    BUILDER_END_KNOWN = "builder:end-known"
    APISERVER_UPLOAD_GRANTED = "apiserver:upload-granted"
    BUILDER_UPLOADED = "builder:uploaded"
    BUILDER_FINAL_SENT = "builder:final-sent"
    APISERVER_FINAL_RECEIVED = "apiserver:final-received"
    APISERVER_RELEASE_UNPACKED = "apiserver:release-unpacked"
    APISERVER_END_COMMITTED = "apiserver:end-committed"
    APISERVER_RELEASE_SWITCHED = "apiserver:release-switched"
    APISERVER_FINAL_ACK_SENT = "apiserver:final-ack-sent"
    APISERVER_DELIVERY_BEGUN = "apiserver:delivery-begun"
    APISERVER_STEP_BEGINS = "apiserver:step-begins"
    APISERVER_STEP_BEGUN = "apiserver:step-begun"
    APISERVER_STEP_ENDS = "apiserver:step-ends"
    APISERVER_STEP_ENDED = "apiserver:step-ended"
    APISERVER_PERSON_NEEDED = "apiserver:person-needed"
    APISERVER_DELIVERY_LOGGED = "apiserver:delivery-logged"
    APISERVER_DELIVERED = "apiserver:delivered"
    APISERVER_REQUEST_BEGUN = "apiserver:request-begun"
    APISERVER_REQUEST_DONE = "apiserver:request-done"
    APISERVER_TELLING_LEASED = "apiserver:telling-leased"
    APISERVER_TOLD = "apiserver:told"
    APISERVER_CHUNK_MADE = "apiserver:chunk-made"
    APISERVER_CHUNK_FILED = "apiserver:chunk-filed"
    APISERVER_CHUNK_REPLACED = "apiserver:chunk-replaced"
    APISERVER_PRUNED = "apiserver:pruned"
    APISERVER_PRUNED_RELEASES = "apiserver:pruned-releases"
    APISERVER_PRUNED_FILES = "apiserver:pruned-files"
    BUILDER_FINAL_ACK_RECEIVED = "builder:final-ack-received"
    BUILDER_FOLDER_REMOVED = "builder:folder-removed"


_CRASH_AT, _, _COUNT = os.environ.get(VARIABLE, "").partition("#")
_left = [int(_COUNT or 1)]


def crash_point(point: CrashPoint) -> None:
    """Kill this process, if the environment names this point."""
    if not _CRASH_AT or point != _CRASH_AT:
        return
    _left[0] -= 1
    if _left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)


class _Clock(Protocol):
    """A reactor: something that has turns."""

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object) -> Any: ...


def crash_after_turn(clock: _Clock, point: CrashPoint) -> None:
    """Kill this process, if the environment names this point, once this turn's messages have been sent."""
    if point == _CRASH_AT:
        clock.callLater(0, crash_point, point)
