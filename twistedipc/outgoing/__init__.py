"""
What leaves the platform, as other services want it: wire formats, pure. On ``builds``; used by ``server`` (which sends)
and ``storage`` (which keeps what is to be told). The modules, from the bottom up:

- ``told``: what is told of a build; where a thing that is told belongs in the order of others
- ``exchange``: requests and answers; whether something is tried again that failed
- ``addresses``: where a repository's host has its API, and what people may write for a receiver
- ``text``: the sentences
- ``rest``: what the hosts' APIs have alike
- ``github``, ``gitlab``, ``gitea`` (also Forgejo): statuses, deployments, comments, tags
- ``webhook``: signed events; ``slack``, ``teams``: messages; ``mail``: a message for SMTP
- ``badge``, ``atom``: a project's builds as a picture and as a feed, which others fetch
- ``kinds``: all kinds of receivers, and what each is told

An exchange is a generator: it yields a request, is sent the answer, and returns a note, or raises
`exchange.NotTold`. So nothing here opens a connection, and a test talks to it without one.
"""
