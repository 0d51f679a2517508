"""
Telling the apiserver which tools this builder has fetched: once on each link, and again when they have changed. Made by
``compose``; told by ``duties`` when to look.
"""

from __future__ import annotations

from twistedipc.builder.link import ApiserverLink, Uplink
from twistedipc.builder.ports import Outside
from twistedipc.builder.workflows import Workflows
from twistedipc.builds import messages as m


class Tooling:
    """What the store of tools has, and what was said of it."""

    def __init__(self, outside: Outside, uplink: Uplink, workflows: Workflows) -> None:
        self._outside = outside
        self._uplink = uplink
        self._workflows = workflows

    def look(self) -> None:
        """Say what there is, unless that is known on this link. An older apiserver is told nothing."""
        link = self._uplink.synced
        if link is not None and m.TOOLS in link.features:
            self._workflows.launch(self._tell(link), "telling which tools there are")

    async def _tell(self, link: ApiserverLink) -> None:
        tools = (await self._outside.in_thread(self._outside.tools))[: m.MAX_TOOLS]
        if link is self._uplink.synced and tools != link.tools:
            link.tools = tools
            link.send(m.Tools(tools=tools))
