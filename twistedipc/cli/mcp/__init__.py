"""
`twistedipc mcp`: a server of the Model Context Protocol on standard input and output, for programs that help people. It
is a client of the API as the other commands are, with the same login.

The modules, from the bottom up:

- ``methods``: the protocol's methods, as an interface of the library's: what each takes and returns
- ``budget``: text of a bounded length, which says what was left out (no I/O)
- ``tools``: what can be asked for: the names, the arguments, what is asked of the API
- ``protocol``: what each method answers, in each version of the protocol (no I/O)
- ``serving``: the process: standard input and output, threads for calls
- ``command``: `twistedipc mcp`
"""
