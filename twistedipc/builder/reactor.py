"""What the builder needs of a reactor, named narrowly."""

from __future__ import annotations

from twisted.internet.interfaces import (
    IReactorCore,
    IReactorFromThreads,
    IReactorProcess,
    IReactorTCP,
    IReactorThreads,
    IReactorTime,
    IReactorUNIXDatagram,
)


class BuilderReactor(
    IReactorCore,
    IReactorTime,
    IReactorTCP,
    IReactorThreads,
    IReactorFromThreads,
    IReactorProcess,
    IReactorUNIXDatagram,
):
    """The part of a reactor's interfaces that the builder uses."""
