"""
Package registries, as far as all who speak with one need it: how npm is set up for them on this machine, and the way
to them by HTTP. Used by ``toolchains`` (which fetches from them) and ``publish`` (which publishes to them).

``npmrc`` (npm's configuration: the registry, its credentials, proxies, certificates), ``connection`` (requests by these
proxies and with these certificates, with deadlines).

No Twisted, so that a step of a build can use it.
"""
