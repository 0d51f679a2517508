"""
A package.json as npm publishes it: npm doesn't send what is written there, but what it makes of it. Pure; used by
``document``.

The rules are those of npm's packages ``@npmcli/package-json`` ("prepare") and ``libnpmpublish``, of npm 12. A registry
shows them to everybody: what installs a package reads `bin`, `scripts` and `bundleDependencies` from there, not from
the tarball.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from twistedipc.publish.targets.npm.hosted import hosted

Manifest = dict[str, Any]

#: What npm publishes as the README of a package that has none.
NO_README = "ERROR: No README data found!"

_MARKDOWN = re.compile(r"\.m?a?r?k?d?o?w?n?\Z", re.IGNORECASE)
_IN_BIN = re.compile(r"(\.[/\\])?node_modules[/\\].bin[\\/]")


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What is in a package's tarball, as far as its manifest is made of it."""

    manifest: Manifest  # package.json
    paths: Collection[str]  # of its files and of the folders that they are in
    texts: dict[str, str]  # the files that `is_text` asks for


def is_text(path: str) -> bool:
    """Return whether what is in this file becomes a part of the manifest."""
    return path == "AUTHORS" or _is_readme(path)


def _is_readme(path: str) -> bool:
    return "/" not in path and (path.lower() == "readme" or path.lower().startswith("readme."))


def prepare(contents: Contents) -> Manifest:
    """Return the manifest that is published. Name and version are those that `package.check_identity` lets pass."""
    manifest = dict(contents.manifest)
    _add_scripts(manifest, contents)
    _add_texts(manifest, contents)
    _add_mans(manifest, contents)
    _add_bin(manifest, contents)
    _add_types(manifest, contents)
    manifest = {key: value for key, value in manifest.items() if not key.startswith("_")}
    manifest["name"] = manifest["name"].strip()
    manifest["version"] = manifest["version"].partition("+")[0]
    manifest["_id"] = f"{manifest['name']}@{manifest['version']}"
    for step in _STEPS:
        step(manifest)
    return manifest


def _true(value: object) -> bool:
    """Whether JavaScript takes a value for true: empty lists and objects are."""
    return value is not None and value is not False and value != "" and not (value == 0 and not isinstance(value, bool))


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


# -- what comes of the files -------------------------------------------------------------------------------------------


def _add_scripts(manifest: Manifest, contents: Contents) -> None:
    scripts = dict(_object(manifest.get("scripts")))
    at_root = [path for path in contents.paths if "/" not in path and not path.startswith(".")]
    has_gyp = any(path.endswith(".gyp") for path in at_root)
    is_free = not _true(scripts.get("install")) and not _true(scripts.get("preinstall"))
    if has_gyp and is_free and manifest.get("gypfile") is not False:
        scripts["install"] = "node-gyp rebuild"
        manifest["scripts"], manifest["gypfile"] = scripts, True


def _add_texts(manifest: Manifest, contents: Contents) -> None:
    if "AUTHORS" in contents.texts and not _true(manifest.get("contributors")):
        lines = re.split(r"\r?\n", contents.texts["AUTHORS"])
        authors = [re.sub(r"^\s*#.*$", "", line).strip() for line in lines]
        manifest["contributors"] = [author for author in authors if author]
    if _true(manifest.get("readme")):
        return
    readmes = sorted(path for path in contents.texts if _is_readme(path))
    chosen = next((path for path in readmes if _MARKDOWN.search(path)), None)
    chosen = chosen or next((path for path in readmes if path.endswith("README")), None)
    if chosen is not None:
        manifest["readme"], manifest["readmeFilename"] = contents.texts[chosen], chosen
    if not _true(manifest.get("readme")):
        manifest["readme"] = NO_README


def _add_mans(manifest: Manifest, contents: Contents) -> None:
    folder = _object(manifest.get("directories")).get("man")
    if isinstance(folder, str) and folder and not _true(manifest.get("man")):
        manifest["man"] = [path for path in _below(folder, contents) if re.search(r"\.[0-9]\Z", path)]
    man = manifest.pop("man", None)
    if _true(man):
        mans = [_inside(each) for each in (man if isinstance(man, list) else [man]) if isinstance(each, str)]
        if mans:
            manifest["man"] = mans


def _add_bin(manifest: Manifest, contents: Contents) -> None:
    folder = _object(manifest.get("directories")).get("bin")
    if isinstance(folder, str) and folder and not _true(manifest.get("bin")):
        manifest["bin"] = {posixpath.basename(path): path for path in _below(folder, contents)}
        return
    given = manifest.pop("bin", None)
    if isinstance(given, str) and given:
        given = {manifest["name"]: given}
    elif isinstance(given, list):
        given = {_basename(each): each for each in given if isinstance(each, str)}
    found = dict(_object(given))
    for key, value in list(found.items()):
        base = _basename(_inside(key))
        target = _inside(value) if isinstance(value, str) else ""
        if not base or not target or base != key:
            del found[key]
        if base and target:
            found[base] = target
    if found:
        manifest["bin"] = found


def _add_types(manifest: Manifest, contents: Contents) -> None:
    main = manifest.get("main") if _true(manifest.get("main")) else "index.js"
    if not isinstance(main, str) or "types" in manifest or "typings" in manifest:
        return
    name = posixpath.splitext(posixpath.basename(main.rstrip("/")))[0]
    types = posixpath.normpath(posixpath.join(posixpath.dirname(main.rstrip("/")), name)) + ".d.ts"
    if types in contents.paths:
        manifest["types"] = f"./{types}"


def _below(folder: str, contents: Contents) -> list[str]:
    """The paths below a folder, but for hidden ones."""
    start = _inside(folder).rstrip("/")
    paths = sorted(path for path in contents.paths if path.startswith(f"{start}/"))
    return [path for path in paths if not any(part.startswith(".") for part in path[len(start) + 1 :].split("/"))]


def _inside(path: str) -> str:
    """A path that stays in the package, with slashes."""
    path = re.sub(r"[\\:]", "/", path)
    end = "/" if path.endswith("/") else ""
    inside = posixpath.normpath(f"/{path}").lstrip("/")
    return f"{inside}{end}" if inside else ""


def _basename(path: str) -> str:
    return posixpath.basename(path.rstrip("/"))


# -- what comes of package.json itself ---------------------------------------------------------------------------------


def _fix_bundle(manifest: Manifest) -> None:
    other = manifest.pop("bundledDependencies", None)
    if "bundleDependencies" not in manifest and other is not None:
        manifest["bundleDependencies"] = other
    given = manifest.pop("bundleDependencies", None)
    if given is True:
        given = list(_object(manifest.get("dependencies")))
    if isinstance(given, dict):
        given = list(given)
    if not isinstance(given, list):
        return
    manifest["bundleDependencies"] = [name for name in given if isinstance(name, str) and name]


def _fix_scripts(manifest: Manifest) -> None:
    if "scripts" not in manifest:
        return
    scripts = manifest["scripts"]
    if not isinstance(scripts, dict):
        del manifest["scripts"]
        return
    manifest["scripts"] = {
        name: _IN_BIN.sub("", text, count=1) if _IN_BIN.match(text) else text
        for name, text in scripts.items()
        if isinstance(text, str)
    }


def _fix_repository(manifest: Manifest) -> None:
    several = manifest.get("repositories")
    if isinstance(several, list) and several:
        manifest["repository"] = several[0]
    repository = manifest.get("repository")
    if isinstance(repository, str) and repository:
        repository = {"type": "git", "url": repository}
    if not isinstance(repository, dict):
        return
    found = hosted(repository.get("url"))
    fixed = {**repository, "url": found.repository} if found is not None else repository
    manifest["repository"] = fixed
    if isinstance(several, list) and several and isinstance(several[0], dict):
        manifest["repositories"] = [fixed, *several[1:]]


def _fix_dependencies(manifest: Manifest) -> None:
    for group in ("dependencies", "devDependencies", "optionalDependencies"):
        given = manifest.get(group)
        if isinstance(given, str) and given:
            given = re.split(r"[\s,]+", given.strip())
        if isinstance(given, list):
            manifest[group] = dict(_dependency(each) for each in given if isinstance(each, str))
    for group in ("dependencies", "devDependencies"):
        if group not in manifest:
            continue
        given = manifest[group]
        if not isinstance(given, dict):
            del manifest[group]
            continue
        texts = {name: spec for name, spec in given.items() if isinstance(spec, str)}
        manifest[group] = {name: found.spec if (found := hosted(spec)) else spec for name, spec in texts.items()}


def _dependency(text: str) -> tuple[str, str]:
    """A dependency that is written as "name@range"."""
    name, *rest = re.split(r"(:?[@\s><=])", text.strip())
    return name, "".join(rest).removeprefix("@").strip()


def _fix_description(manifest: Manifest) -> None:
    if _true(manifest.get("description")) and not isinstance(manifest["description"], str):
        del manifest["description"]
    readme = manifest.get("readme")
    if isinstance(readme, str) and readme not in ("", NO_README) and not _true(manifest.get("description")):
        manifest["description"] = _first_paragraph(readme)


def _first_paragraph(readme: str) -> str:
    lines = readme.strip().split("\n")
    start = 0
    while start < len(lines) and (not lines[start].strip() or lines[start].strip().startswith("#")):
        start += 1
    end = start + 1
    while end < len(lines) and lines[end].strip():
        end += 1
    return " ".join(lines[start:end]).strip()


def _fix_lists(manifest: Manifest) -> None:
    if _true(manifest.get("modules")):
        del manifest["modules"]
    if isinstance(manifest.get("keywords"), str):
        manifest["keywords"] = re.split(r",\s+", manifest["keywords"])
    for key in ("files", "keywords"):
        given = manifest.get(key)
        if isinstance(given, list):
            manifest[key] = [each for each in given if isinstance(each, str) and each]
        elif _true(given):
            del manifest[key]


def _fix_bugs(manifest: Manifest) -> None:
    given = manifest.get("bugs")
    if not _true(given):
        found = hosted(_object(manifest.get("repository")).get("url"))
        if found is not None and found.bugs:
            manifest["bugs"] = {"url": found.bugs}
        return
    if isinstance(given, str):
        if _is_email(given):
            manifest["bugs"] = {"email": given}
        elif _is_url(given):
            manifest["bugs"] = {"url": given}
        else:
            del manifest["bugs"]  # npm looks for both in the text, and finds none
        return
    bugs = _object(given)
    url = next((bugs[key] for key in ("name", "web", "url") if key in bugs), None)
    email = bugs.get("email")
    kept = {"url": url} if _is_url(url) else {}
    if isinstance(email, str) and _is_email(email):
        kept["email"] = email
    del manifest["bugs"]
    if kept:
        manifest["bugs"] = kept


def _fix_bundled(manifest: Manifest) -> None:
    """What is bundled is a dependency too."""
    for name in manifest.get("bundleDependencies", ()):
        dependencies = manifest.setdefault("dependencies", {})
        dependencies.setdefault(name, "*")


def _fix_homepage(manifest: Manifest) -> None:
    if not _true(manifest.get("homepage")):
        found = hosted(_object(manifest.get("repository")).get("url"))
        if found is not None:
            manifest["homepage"] = found.docs
    homepage = manifest.get("homepage")
    if not _true(homepage):
        return
    if not isinstance(homepage, str):
        del manifest["homepage"]
    elif not _is_url(homepage):
        manifest["homepage"] = f"http://{homepage}"


def _fix_people(manifest: Manifest) -> None:
    if _true(manifest.get("author")):
        manifest["author"] = _person(manifest["author"])
    for key in ("maintainers", "contributors"):
        if isinstance(manifest.get(key), list):
            manifest[key] = [_person(each) for each in manifest[key]]


def _person(given: object) -> dict[str, str]:
    if not isinstance(given, str):
        person = _object(given)
        url = person.get("url") or person.get("web")
        email = person.get("email") or person.get("mail")
        given = f"{person.get('name') or ''}{f' <{email}>' if email else ''}{f' ({url})' if url else ''}"
    found: dict[str, str] = {}
    if (name := re.match(r"[^(<]+", given)) and name[0].strip():
        found["name"] = name[0].strip()
    if email := re.search(r"<([^<>]+)>", given):
        found["email"] = email[1]
    if url := re.search(r"\(([^()]+)\)", given):
        found["url"] = url[1]
    return found


def _is_email(text: str) -> bool:
    return "@" in text and text.index("@") < text.rfind(".")


def _is_url(value: object) -> bool:
    """Whether a value is an absolute address, as the URL standard has them."""
    if not isinstance(value, str) or not re.match(r"\s*[A-Za-z][A-Za-z0-9+.-]*:", value):
        return False
    try:
        parts = urlsplit(value.strip())
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme not in ("http", "https") or bool(parts.netloc or parts.path.strip("/"))


_STEPS: tuple[Callable[[Manifest], None], ...] = (
    _fix_bundle,
    _fix_scripts,
    _fix_repository,
    _fix_dependencies,
    _fix_description,
    _fix_lists,
    _fix_bugs,
    _fix_bundled,
    _fix_homepage,
    _fix_people,
)
