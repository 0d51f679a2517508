"""
Draws docs/ipc-reference.md from the docstrings of `twistedipc.ipc`'s public names, which are the truth.

    python -m tests.draw_reference

All is read from the source text and not from what Python makes of it, so that every version of Python draws the same
page. A name that is new in ``__all__`` comes in by itself: beside those of its module, or under "More".
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from twistedipc import ipc
from twistedipc.ipc import aio, testing

PATH = Path(__file__).parent.parent / "docs" / "ipc-reference.md"

#: Characters of a line of prose.
WIDTH = 98

_PLAIN = ["listen_plain", "dial_plain", "PlainOptions"]
_SANS_IO = ["JsonRpcConversation", "JsonRpcFormat", "Asked", "Dropped", "Replied", "Failed", "Refused"]
_SANS_IO += ["Misunderstood", "Ended"]
_JSON_RPC = ["listen_jsonrpc", "dial_jsonrpc", "spawn_jsonrpc", "JsonRpcOptions"]

#: Themes in the tutorial's order, each with a sentence on it. Exceptions have a theme of their own.
THEMES: list[tuple[str, str, list[str]]] = [
    ("Declaring an interface", "", ["Message", "Request", "StreamedRequest", "StreamOf", "Blob", "Interface"]),
    ("Answering", "", ["Service", "handles", "receives", "listen", "Listening"]),
    ("Asking", "", ["dial", "Remote", "StreamedReply", "Unlinked"]),
    ("Other formats", "For programs that don't speak the link.", [*_PLAIN, *_JSON_RPC]),
    (
        "The other end",
        "",
        ["Peer", "PeerInfo", "Complaint", "PeerCertificate", "names_by_uid", "names_by_certificate", "send_to"],
    ),
    ("Figures", "", ["Traffic", "Queues", "Latencies"]),
    (
        "Keys, certificates, reactors",
        "",
        [
            "make_key",
            "write_key",
            "read_key",
            "NamedKey",
            "Keys",
            "make_named_key",
            "write_named_key",
            "read_named_key",
            "TLSFiles",
            "LinkReactor",
            "check_listened",
        ],
    ),
    (
        "Streams",
        "",
        ["Stream", "StreamId", "Receiver", "Outbox", "FileOutbox", "MemoryOutbox"],
    ),
    (
        "Processes and Node",
        "",
        [
            "spawn",
            "Spawned",
            "SpawnReactor",
            "ChildExit",
            "spawn_node",
            "NodeProcess",
            "NodeReactor",
            "parent_channel",
            "NodePeer",
            "NodeApplication",
            "NodeApplicationFactory",
        ],
    ),
    ("Services of Twisted's", "", ["listening_service", "dialling_service", "ListeningService", "DiallingService"]),
    ("Threads", "", ["SyncRemote", "SyncStreamedReply", "SyncStream"]),
    (
        "asyncio",
        "In the module `twistedipc.ipc.aio`, with the names of `twistedipc.ipc`.",
        ["aio.dial", "aio.Remote", "aio.Stream", "aio.listen", "aio.Listening", "aio.send_to"],
    ),
    ("More", "", []),
    ("Testing", "In the module `twistedipc.ipc.testing`.", ["ServicePair", "ConnectedPair"]),
    (
        "Links without a service",
        "What stands below `listen` and `dial`: for links with an application of another shape.",
        [
            "SessionSettings",
            "Names",
            "Vocabulary",
            "Application",
            "ApplicationFactory",
            "dial_links",
            "DialService",
            "listen_for_links",
            "ListenService",
            "CreditWindow",
            "SendWindow",
            "ReceiveWindow",
            "Hole",
            "LineSplitter",
            *_SANS_IO,
            "Load",
            "send_at_once",
        ],
    ),
    ("Errors", "Exceptions, each with what it is a kind of, and the codes that the framework itself uses.", ["Code"]),
]

#: Made by its user, who needs nothing else of it.
_OPAQUE = {"Vocabulary"}

#: How a docstring says that a method is public for the framework's own modules only.
_INSIDE = "Internal to the library."

_TEXT = """\
# The library: reference

Drawn from the docstrings of `twistedipc.ipc` by `python -m tests.draw_reference`; a test holds
this page to them. [ipc.md](ipc.md) is the tutorial. All names are imported from `twistedipc.ipc`,
unless their entry says otherwise. Times are in seconds, sizes in bytes.

{contents}

{themes}
"""


@dataclass(frozen=True)
class Name:
    """A public name: what it is, and the source text that it stands in."""

    name: str
    module: str
    node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Assign
    lines: list[str]

    @property
    def is_exception(self) -> bool:
        found = getattr(sys.modules[self.module], self.name.rpartition(".")[2])
        return isinstance(found, type) and issubclass(found, Exception)


def page() -> str:
    """The page as it should be."""
    names = {name: _find(name, {name: getattr(ipc, name)}) for name in ipc.__all__}
    names |= {name: _find(name, vars(testing)) for name in ("ServicePair", "ConnectedPair")}
    for name in ("dial", "Remote", "Stream", "listen", "Listening", "send_to"):
        names[f"aio.{name}"] = replace(_find(name, vars(aio)), name=f"aio.{name}")
    themes = _themed(names)
    anchors = _anchors(themes, names)
    return _TEXT.format(
        contents="\n".join(
            _wrapped(
                f"- [{title}](#{anchors[title]}): " + ", ".join(f"[`{name}`](#{anchors[name]})" for name in members),
                "  ",
            )
            for title, _, members in themes
        ),
        themes="\n\n".join(
            "\n\n".join(
                [f"## {title}", *([about] if about else []), *(_entry(names[name], anchors) for name in members)]
            )
            for title, about, members in themes
        ),
    )


def _themed(names: dict[str, Name]) -> list[tuple[str, str, list[str]]]:
    """The themes that have names, with those that were forgotten in their place."""
    themes = [(title, about, list(members)) for title, about, members in THEMES]
    known = {name: members for _, _, members in themes for name in members}
    assert set(known) <= set(names), f"no longer public: {sorted(set(known) - set(names))}"
    by_title = {title: members for title, _, members in themes}
    for name, found in names.items():
        if name in known:
            continue
        if found.is_exception:
            by_title["Errors"].append(name)
            continue
        beside = [members for other, members in known.items() if names[other].module == found.module]
        (beside[0] if beside else by_title["More"]).append(name)
    return [theme for theme in themes if theme[2]]


def _anchors(themes: list[tuple[str, str, list[str]]], names: dict[str, Name]) -> dict[str, str]:
    """Where each heading is on the page: in its order, since the second of two that look alike gets a number."""
    headings: list[str] = []
    for title, _, members in themes:
        headings.append(title)
        for name in members:
            node = names[name].node
            headings.append(name)
            if isinstance(node, ast.ClassDef) and name not in _OPAQUE:
                headings += [f"{name}.{method.name}" for method, _ in _methods(node)]
    anchors: dict[str, str] = {}
    times: Counter[str] = Counter()
    for heading in headings:
        anchor = re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-")
        anchors[heading] = f"{anchor}-{times[anchor]}" if times[anchor] else anchor
        times[anchor] += 1
    return anchors


# -- reading the source ----------------------------------------------------------------------------------------------


def _find(name: str, namespace: dict[str, object]) -> Name:
    """
    Where a public name is defined: an overloaded function's last form. An alias is looked for in the modules, since it
    doesn't know its own.
    """
    module = getattr(namespace[name], "__module__", "")
    candidates = [module, *sorted(each for each in sys.modules if each.startswith("twistedipc.ipc."))]
    for candidate in candidates:
        if candidate.startswith("twistedipc.ipc."):
            text, nodes = _source(candidate)
            for node in reversed(nodes):
                if _defines(node, name):
                    assert isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Assign)
                    return Name(name, candidate, node, text.splitlines())
    raise LookupError(f"{name} isn't defined in any module of twistedipc.ipc")


@functools.cache
def _source(module: str) -> tuple[str, list[ast.stmt]]:
    text = inspect.getsource(sys.modules[module])
    return text, ast.parse(text).body


def _defines(node: ast.stmt, name: str) -> bool:
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return node.name == name
        case ast.Assign(targets=[ast.Name(id=target)]):
            return target == name
        case _:
            return False


_Function = ast.FunctionDef | ast.AsyncFunctionDef


def _methods(node: ast.ClassDef) -> Iterator[tuple[_Function, str]]:
    """A class's public methods and properties, each with its docstring; of an overloaded one, the first form."""
    forms: dict[str, _Function] = {}
    for each in node.body:
        if not isinstance(each, _Function) or each.name.startswith("_"):
            continue
        first = forms.setdefault(each.name, each)
        text = ast.get_docstring(each) or ""
        # What Twisted calls, and what stands elsewhere, isn't the reader's business.
        if each.name == each.name.lower() and text and _INSIDE not in text and not re.match(r"See `\w+`", text):
            yield first, text


def _attributes(found: Name, node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """A class's public attributes: how they are declared, and what the comment beside or above them says."""
    places = [each for each in node.body if isinstance(each, ast.AnnAssign | ast.Assign)]
    for each in node.body:
        if isinstance(each, _Function) and each.name == "__init__":
            places += [line for line in each.body if isinstance(line, ast.AnnAssign | ast.Assign)]
    for place in places:
        target = place.target if isinstance(place, ast.AnnAssign) else place.targets[0]
        own = isinstance(target, ast.Attribute)
        name = target.attr if isinstance(target, ast.Attribute) else ast.unparse(target)
        comment = _comment(found.lines, place)
        if name.startswith("_") or (place not in node.body and not (own and comment)):
            continue  # what isn't spoken of, of the attributes that a constructor sets, is none of the reader's
        declared = name
        if isinstance(place, ast.AnnAssign):
            declared += f": {ast.unparse(place.annotation)}"
        if place.value is not None and not own:
            declared += f" = {_value(found, place.value)}"
        yield declared, comment


def _comment(lines: list[str], node: ast.stmt) -> str:
    assert node.end_lineno is not None
    beside = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
    if beside.strip().startswith("# "):
        return beside.strip().removeprefix("# ")
    above: list[str] = []
    number = node.lineno - 2
    while number >= 0 and lines[number].strip().startswith("#: "):
        above.insert(0, lines[number].strip().removeprefix("#: "))
        number -= 1
    return " ".join(above)


# -- drawing ---------------------------------------------------------------------------------------------------------


def _entry(found: Name, anchors: dict[str, str]) -> str:
    node = found.node
    parts = [f"### {found.name}"]
    match node:
        case ast.ClassDef():
            parts += _class(found, node, anchors)
        case ast.Assign():
            parts.append(_code("\n".join(found.lines[node.lineno - 1 : node.end_lineno])))
            parts.append(_prose(_comment(found.lines, node), anchors))
        case _:
            parts.append(_code(_signature(found, node)))
            parts.append(_prose(ast.get_docstring(node) or "", anchors))
    return "\n\n".join(part for part in parts if part)


def _class(found: Name, node: ast.ClassDef, anchors: dict[str, str]) -> Iterator[str]:
    about = ast.get_docstring(node) or ""
    bases = [_base(found, base) for base in node.bases if not ast.unparse(base).startswith("_")]
    made = [each for each in node.body if isinstance(each, _Function) and each.name == "__init__"]
    fields = any(ast.unparse(decorator).startswith("dataclass") for decorator in node.decorator_list)
    attributes = [(declared, comment) for declared, comment in _attributes(found, node) if comment or not fields]
    if fields:
        declared = [declared for declared, _ in _attributes(found, node)]
        yield _code(_on_lines(f"class {node.name}", declared, ""))
    elif made and ":param" in about:
        yield _code(_signature(found, made[0], name=f"class {node.name}", method=True))
        if found.is_exception:
            yield f"A kind of {_inline(f'`{bases[0]}`', anchors)}."
    else:
        yield _code(_on_lines(f"class {node.name}", bases, "") if bases else f"class {node.name}")
    yield _prose(about, anchors)
    if attributes:
        yield "\n".join(
            _wrapped(f"- `{declared}`" + (f": {_inline(comment, anchors)}" if comment else ""), "  ")
            for declared, comment in attributes
        )
    if node.name in _OPAQUE:
        return
    for method, text in _methods(node):
        if any(ast.unparse(decorator) == "property" for decorator in method.decorator_list):
            returns = "" if method.returns is None else f": {ast.unparse(method.returns)}"
            yield f"#### {found.name}.{method.name}\n\n" + _code(f"{method.name}{returns}  # a property")
        else:
            yield f"#### {found.name}.{method.name}\n\n" + _code(_signature(found, method, method=True))
        yield _prose(text, anchors)


def _base(found: Name, base: ast.expr) -> str:
    """A class's base; Twisted's by its whole name, since some are called as ours are."""
    text = ast.unparse(base)
    module = getattr(getattr(sys.modules[found.module], text, None), "__module__", "")
    return f"{module}.{text}" if module.startswith("twisted.") else text


def _value(found: Name, value: ast.expr) -> str:
    """A default: a constant's number instead of its name, which says nothing outside its module."""
    text = ast.unparse(value)
    constant = getattr(sys.modules[found.module], text, None) if text.isupper() else None
    return f"{constant:_}" if isinstance(constant, int) else text


def _signature(found: Name, node: _Function, name: str = "", *, method: bool = False) -> str:
    if any(ast.unparse(decorator).startswith(("_on_the_loop(", "_as_service(")) for decorator in node.decorator_list):
        return f"{'async ' if isinstance(node, ast.AsyncFunctionDef) else ''}def {node.name}(…)"
    arguments = list(_arguments(found, node.args))
    if method:
        del arguments[0]
    begins = name or f"{'async ' if isinstance(node, ast.AsyncFunctionDef) else ''}def {node.name}"
    ends = "" if name or node.returns is None else f" -> {ast.unparse(node.returns)}"
    return _on_lines(begins, arguments, ends)


def _on_lines(begins: str, arguments: list[str], ends: str) -> str:
    """On one line, or on one for each parameter."""
    line = f"{begins}({', '.join(arguments)}){ends}"
    if len(line) <= 100:
        return line
    return "\n".join([f"{begins}(", *(f"    {argument}," for argument in arguments), f"){ends}"])


def _arguments(found: Name, arguments: ast.arguments) -> Iterator[str]:
    """Each parameter by itself, in the order and with the stars of the source."""
    positional = arguments.posonlyargs + arguments.args
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    for argument, default in zip(positional, defaults, strict=True):
        yield _parameter(found, argument, default)
    if arguments.vararg is not None:
        yield _parameter(found, arguments.vararg, None, "*")
    elif arguments.kwonlyargs:
        yield "*"
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _parameter(found, argument, default)
    if arguments.kwarg is not None:
        yield _parameter(found, arguments.kwarg, None, "**")


def _parameter(found: Name, argument: ast.arg, default: ast.expr | None, stars: str = "") -> str:
    text = stars + ast.unparse(argument)
    if default is not None:
        text += f"{' = ' if argument.annotation else '='}{_value(found, default)}"
    return text


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _prose(text: str, anchors: dict[str, str]) -> str:
    """A docstring as Markdown: parameters and errors as a list, indented blocks as code."""
    blocks: list[str] = []
    for block in text.split("\n\n"):
        if block.startswith("    "):
            code = "\n".join(line.removeprefix("    ") for line in block.splitlines())
            if blocks and blocks[-1].endswith("\n```") and blocks[-1].startswith("```"):
                blocks[-1] = blocks[-1].removesuffix("\n```") + f"\n\n{code}\n```"  # a blank line within code
            else:
                blocks.append(_code(code))
        elif block.startswith(":"):
            fields = (_field(field, anchors) for field in re.split(r"\n(?=:)", block))
            blocks.append("\n".join(_wrapped(field, "  ") for field in fields))
        elif block.strip() != "::":
            blocks.append(_wrapped(_inline(re.sub(r"::$", ":", re.sub(r"\s+::$", "", block)), anchors)))
    return "\n\n".join(blocks)


def _wrapped(text: str, indent: str = "") -> str:
    """Prose in lines of at most `WIDTH` characters; a list or a table as it is."""
    if text.startswith("|") or (text.startswith("- ") and "\n- " in text):
        return text
    return textwrap.fill(
        " ".join(text.split()), WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _field(text: str, anchors: dict[str, str]) -> str:
    match = re.fullmatch(r":(param|raises|returns)\s*([^:]*):\s*(.*)", text, re.DOTALL)
    assert match is not None, f"{text!r} is no :param name:, :raises Error: or :returns:"
    kind, name, what = match.groups()
    what = _inline(re.sub(r"\s*\n\s*", " ", what), anchors)
    match kind:
        case "param":
            return f"- `{name}`: {what}"
        case "raises":
            return f"- raises {_inline(f'`{name}`', anchors)}: {what}"
        case _:
            return f"- returns {what}"


def _inline(text: str, anchors: dict[str, str]) -> str:
    """``code`` and `names`, which are linked where the page has them."""

    def replaced(match: re.Match[str]) -> str:
        code, name = match.groups()
        if code is not None:
            return f"`{code}`"
        return f"[`{name}`](#{anchors[name]})" if name in anchors else f"`{name}`"

    return re.sub(r"``(.+?)``|`([^`]+)`", replaced, text)


if __name__ == "__main__":
    PATH.write_text(page(), "utf-8")
