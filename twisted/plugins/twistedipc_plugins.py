"""twistd's two plugins of twistedipc, in one file, so that a stale list of plugins can't hide one of them."""

from twisted.application.service import ServiceMaker

apiserver = ServiceMaker(
    "twistedipc: the API service",
    "twistedipc.taps.apiserver",
    "The API service of a build-and-publish platform: API, queue, page, live logs, releases.",
    "apiserver",
)

buildipc = ServiceMaker(
    "twistedipc: the builder",
    "twistedipc.taps.builder",
    "The builder of a build-and-publish platform: runs builds and forwards their logs.",
    "buildipc",
)
