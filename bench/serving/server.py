"""
``python -m bench.serving.server ours|twisted FOLDER``: serves a folder's files on a port of its own, which it prints.

Ours is the releases' site over a release of these files; Twisted's is `twisted.web.static.File`.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.web.server import Site
from twisted.web.static import File

from twistedipc.disk.files import write_file
from twistedipc.publish.targets.static.pool import Pool
from twistedipc.publish.targets.static.release import Entry, Index
from twistedipc.publish.targets.static.releases import ReleaseStore
from twistedipc.web.releases.site import releases_site


def ours(folder: Path) -> Site:
    """The releases' site; the project is called shop."""
    store = ReleaseStore(folder / "releases")
    files: dict[str, Entry] = {}
    with Pool(folder / "releases/shop/pool").adding() as adding:
        for path in sorted((folder / "site").iterdir()):
            content = path.read_bytes()
            files[path.name] = Entry(hashlib.sha256(content).hexdigest(), len(content))
            adding.write(files[path.name].sha256, [content])
    (folder / "releases/shop/releases").mkdir()
    write_file(folder / "releases/shop/releases/1.json", Index(files=files))
    store.activate("shop", 1)
    return releases_site(store, reactor, os.urandom)


def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    site = ours(folder) if kind == "ours" else Site(File(str(folder / "site")))
    port: Any = reactor.listenTCP(0, site, interface="127.0.0.1")  # type: ignore[arg-type]
    print(port.getHost().port, flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
