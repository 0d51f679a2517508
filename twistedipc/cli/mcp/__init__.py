"""
`twistedipc mcp`: a server of the Model Context Protocol on standard input and output, for programs that help people. It
is a client of the API as the other commands are, with the same login. What it answers is in ``web.api.mcp``.

The modules, from the bottom up:

- ``asking``: the calls that tools stand on, over HTTP
- ``serving``: the process: standard input and output, threads for calls
- ``command``: `twistedipc mcp`
"""
