"""twistd's two plugins of twistedipc, in one file, so that a stale list of plugins can't hide one of them."""

import signal

from twisted.application.service import ServiceMaker


class _ServiceMaker(ServiceMaker):
    """One whose service a SIGHUP can't end while its modules are imported, which takes a second or more."""

    def __init__(self, name: str, module: str, description: str, tapname: str) -> None:
        super().__init__(name, module, description, tapname)

    @property
    def options(self) -> type:
        """
        The class of its options, which twistd asks for when it is told to run this service. Later the service itself
        does something with a SIGHUP: ``twistedipc.taps.hangup``.
        """
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        found: type = super().options
        return found


apiserver = _ServiceMaker(
    "twistedipc: the API service",
    "twistedipc.taps.apiserver",
    "The API service of a build-and-publish platform: API, queue, page, live logs, releases.",
    "apiserver",
)

buildipc = _ServiceMaker(
    "twistedipc: the builder",
    "twistedipc.taps.builder",
    "The builder of a build-and-publish platform: runs builds and forwards their logs.",
    "buildipc",
)
