"""A feed of a project's builds (RFC 4287). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from xml.sax.saxutils import escape, quoteattr

from twistedipc.builds.names import shown
from twistedipc.outgoing import text
from twistedipc.outgoing.told import At, Told


def feed(project: str, entries: Sequence[tuple[Told, At]], *, here: str, page: str, now: int) -> bytes:
    """
    Return the feed. It depends on nothing but what is told: the same builds give the same bytes.

    :param entries: builds that have ended, newest first
    :param here: the feed's own address, which is its name too
    :param page: where people find the project
    :param now: milliseconds since the epoch; for a feed without entries
    """
    updated = entries[0][0].time if entries else now
    parts = [
        '<?xml version="1.0" encoding="utf-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom">',
        f"<id>{escape(page)}</id>",
        f"<title>{escape(f'Builds of {project}')}</title>",
        f'<link rel="self" href={quoteattr(here)}/>',
        f"<link href={quoteattr(page)}/>",
        f"<updated>{_time(updated)}</updated>",
        "<author><name>twistedipc</name></author>",
        *(_entry(told, at) for told, at in entries),
        "</feed>\n",
    ]
    return "\n".join(parts).encode()


def _entry(told: Told, at: At) -> str:
    said = [text.line(told.title), text.reason(told)]
    return "\n".join(
        [
            "<entry>",
            f"<id>{escape(at.build)}</id>",
            f"<title>{_escaped(text.headline(told))}</title>",
            f"<link href={quoteattr(at.build)}/>",
            f"<updated>{_time(told.time)}</updated>",
            f'<content type="text">{_escaped(chr(10).join(filter(None, said)))}</content>',
            "</entry>",
        ]
    )


def _escaped(said: str) -> str:
    """Return text as XML can hold it: without characters that it forbids."""
    return escape(shown(said.replace("\ufffe", "").replace("\uffff", ""), 5000, lines=True))


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
