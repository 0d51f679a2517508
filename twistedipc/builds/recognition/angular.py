"""Where Angular's builds are: angular.json says it, by rules of its builders'."""

from __future__ import annotations

import codecs
from typing import Any

import msgspec

from twistedipc.builds.recognition.recognised import Finding

#: Builders that put what is for browsers into a folder ``browser`` in their output.
_WITH_BROWSER = ("@angular-devkit/build-angular:application", "@angular/build:application")


def outputs(data: bytes, path: str) -> list[Finding]:
    """Return the folders of the applications in an angular.json, relative to it, the first application's first."""
    try:
        said = msgspec.json.decode(data.removeprefix(codecs.BOM_UTF8))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    found: list[Finding] = []
    projects = _dict(_dict(said).get("projects"))
    default = _dict(said).get("defaultProject")
    for name in sorted(projects, key=lambda each: each != default):
        project = _dict(projects[name])
        build = _dict(_dict(project.get("architect") or project.get("targets")).get("build"))
        if project.get("projectType") == "library" or not build:
            continue
        folder = _folder(_dict(build.get("options")).get("outputPath"), str(build.get("builder")), name)
        if folder is not None:
            where = data.find(b'"outputPath"', max(0, data.find(f'"{name}"'.encode())))
            line = data.count(b"\n", 0, where) + 1 if where >= 0 else 0
            found.append(Finding(what="output", value=folder, why=f"the project {name}", file=path, line=line))
    return found


def _folder(said: object, builder: str, name: str) -> str | None:
    below = "browser" if builder in _WITH_BROWSER else ""
    if isinstance(said, dict):
        below = said["browser"] if isinstance(said.get("browser"), str) else below
        said = said.get("base")
    if said is None:
        said = f"dist/{name}"  # the default, from version 18 on
    return "/".join(part for part in (said, below) if part) if isinstance(said, str) else None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
