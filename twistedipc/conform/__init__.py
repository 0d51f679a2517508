"""
`twistedipc conform`: tries an implementation of an end of a link, or of the plain profile, against docs/protocol.md.

It shares no code with ``ipc``, whose faults it would have too. Its sockets block: a case is a conversation, from its
first line to its last.

``codes`` (the codes of the handshake), ``wire`` (one connection, as lines, with a deadline for each wait), ``meeting``
(how connections come about: dialled, or listened for; the handshake), ``cases`` (what a case is, and the list of all).
The cases: ``framing``, ``greeting``, ``introducing`` (features), ``services`` (several at one endpoint), ``calling``,
``items`` (streamed replies) and ``streaming`` of an end of a link, ``plain`` of a plain server, ``building`` of a
builder, ``serving`` of an apiserver.
``running`` tries them; ``command`` is what people call.
"""
