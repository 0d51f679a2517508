"""All of other hosts' configuration in one folder. Pure."""

from __future__ import annotations

from twistedipc.builds.recognition.tree import CantRead, Tree
from twistedipc.cli.importing import netlify, vercel, workflow
from twistedipc.cli.importing.imported import Imported
from twistedipc.cli.importing.positions import Unreadable, read_yaml
from twistedipc.cli.importing.redirects import FOLDERS, read_headers, read_redirects

#: The most workflows that are read.
MAX_WORKFLOWS = 50


def import_all(tree: Tree) -> Imported:
    """
    Return what is found. Hosts' own files come before a workflow, since they say more exactly how the site is built. A
    file that can't be read gets a remark.
    """
    into = Imported()
    for file, read in ((vercel.FILE, vercel.read_vercel), (netlify.FILE, netlify.read_netlify)):
        data = _read(tree, file, into)
        if data is not None:
            try:
                read(data, into)
            except Unreadable as error:
                into.leave(file, 0, str(error))
    _read_lists(tree, into)
    _read_workflows(tree, into)
    return into


def _read_lists(tree: Tree, into: Imported) -> None:
    output = into.settings.get("output")
    folders = dict.fromkeys([*FOLDERS, *([output] if isinstance(output, str) and output != "." else [])])
    root = into.settings.get("root")
    for folder in folders:
        for name, read in (("_redirects", read_redirects), ("_headers", read_headers)):
            path = "/".join(part for part in (str(root or ""), folder, name) if part)
            data = _read(tree, path, into)
            if data is not None:
                read(path, data, into)


def _read_workflows(tree: Tree, into: Imported) -> None:
    names = sorted(name for name in tree.names(workflow.FOLDER) if name.endswith((".yml", ".yaml")))
    files: dict[str, bytes] = {}
    for name in names[:MAX_WORKFLOWS]:
        path = f"{workflow.FOLDER}/{name}"
        data = _read(tree, path, into)
        if data is not None:
            try:
                read_yaml(data)
            except Unreadable as error:
                into.leave(path, 0, str(error))
            else:
                files[path] = data
    if files:
        workflow.read_workflows(files, into)


def _read(tree: Tree, path: str, into: Imported) -> bytes | None:
    try:
        data = tree.read(path)
    except CantRead as error:
        into.leave(path, 0, f"isn't read: {error}")
        return None
    if data is not None:
        into.read.append(path)
    return data
