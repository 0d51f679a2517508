"""
The Model Context Protocol, for programs that help people: the route ``/mcp``, and what `twistedipc mcp` serves on
standard input and output.

The modules, from the bottom up:

- ``methods``: the protocol's methods, as an interface of the library's: what each takes and returns
- ``budget``: text of a bounded length, which says what was left out (no I/O)
- ``asking``: the few calls of the API that tools stand on, whoever makes them; ``failure``: a failure as text
- ``tools``: what can be asked for: the names, the arguments, what is asked of the API
- ``protocol``: what each method answers, in each version of the protocol (no I/O)
- ``at_once``: how many calls of tools go on at once over HTTP (no I/O)
- ``within``: those calls, made in the apiserver itself
- ``posted``: the route's function: one message in, one answer out
"""
