"""What was found in other hosts' configuration. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from twistedipc.builds.names import BadValue
from twistedipc.builds.settings import BuildSettings, checked
from twistedipc.builds.site.rules import HeaderRule, Redirect
from twistedipc.builds.variables import looks_secret, of_repository

#: The longest part of a file that a remark quotes, in characters.
_MAX_QUOTED = 80

Setting = str | bool | list[str]


@dataclass(frozen=True)
class Remark:
    """What isn't carried over, and why, or what to do instead."""

    file: str
    line: int  # from 1; 0: the whole file
    text: str  # a sentence without a period

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.line else f"{self.file}: {self.text}"


@dataclass
class Imported:
    """
    Settings, variables, redirects and headers, in the order in which they were found, and remarks. What a file says
    first stays: a later one that says otherwise gets a remark.
    """

    settings: dict[str, Setting] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    redirects: list[Redirect] = field(default_factory=list)
    headers: list[HeaderRule] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    read: list[str] = field(default_factory=list)  # the files that were found

    def set(self, key: str, value: Setting, file: str, line: int) -> None:
        """Carry a setting over, or remark why it can't be."""
        before = self.settings.get(key)
        if before == value:
            return
        if before is not None:
            self.leave(file, line, f"{quoted(value)} isn't carried over as {key}: {quoted(before)} was found before")
            return
        try:
            checked(BuildSettings(**{key: value}))  # type: ignore[arg-type]
        except (BadValue, TypeError) as error:
            self.leave(file, line, f"{quoted(value)} isn't carried over: {error}")
            return
        self.settings[key] = value

    def set_variable(self, name: str, value: str, file: str, line: int) -> None:
        """Carry a variable over, unless it is a secret's or can't be set."""
        if looks_secret(name):
            self.leave(file, line, f"{name} looks like a secret: give it to the project as one (project secret set)")
            return
        if self.environment.get(name, value) != value:
            self.leave(file, line, f"{name} isn't carried over: another value was found before")
            return
        try:
            of_repository({name: value})
        except BadValue as error:
            self.leave(file, line, f"{name[:_MAX_QUOTED]} isn't carried over: {error}")
            return
        self.environment[name] = value

    def leave(self, file: str, line: int, text: str) -> None:
        """Remark on what isn't carried over."""
        self.remarks.append(Remark(file, line, text))

    @property
    def found(self) -> BuildSettings:
        """The settings."""
        return checked(BuildSettings(**self.settings))  # type: ignore[arg-type]


def quoted(value: object) -> str:
    """Return a value of a file as part of a sentence: on one line, and not too long."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _MAX_QUOTED else f"{text[: _MAX_QUOTED - 1]}…"
