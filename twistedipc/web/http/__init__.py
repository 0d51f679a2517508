"""
HTTP as every site here needs it, and the lowest room of ``web``: it imports none of the others.

- ``channel``: connections, requests and sites, with a bound on everything
- ``clients``: the client behind a proxy; ``hosts``: which site a host name belongs to
- ``problems``: errors, after RFC 9457
- ``queries`` and ``bodies``: what a request says, as types
- ``file_response``: a file as a response, with ``conditional`` and ``ranges`` (what to send of it), ``media`` (its
  type), ``encodings`` (compressed or not) and ``file_body`` (sending it)
- ``outgoing``: requests to other services, bounded; ``elsewhere``: connections that don't lead back to this machine
- ``stall``: when to give up a client that takes nothing; ``closing``: close codes
"""
