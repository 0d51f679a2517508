"""
What can be wrong with a tool. ``str()`` of each is a sentence for the project's authors or the operator.
"""

from __future__ import annotations


class ToolProblem(Exception):
    """A tool can't be had."""


class NoTool(ToolProblem):
    """There is none that fits, or none for this machine."""


class BadIntegrity(ToolProblem):
    """A package isn't what it must be, or nothing says what it must be."""


class BadPackage(ToolProblem):
    """A package's archive can't be unpacked."""


class Busy(ToolProblem):
    """Another process has been fetching the same for too long."""


class RegistryError(ToolProblem):
    """The registry can't be reached, or its answer is of no use."""


class NoPackage(RegistryError):
    """The registry has no such package."""


class BadRange(ToolProblem, ValueError):
    """Not a range that npm knows."""
