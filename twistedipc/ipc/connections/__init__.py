"""
One connection on a Twisted transport, in each of its formats, and what the formats share.

    peer.py          the seam to what is built on a link: `Peer`, `Application`
    connection.py    what every connection does: `Connection`
    link.py          a session on a transport: `JSONLineProtocol`
    plain.py         a conversation without a session on a transport: `PlainProtocol`
    node.py          Node's own channel on a transport: `NodeConnection`, `NodePeer`

    cork.py          what is written, and when: `Cork`
    timer.py         one timer for all deadlines of a connection: `Timer`
    acceptance.py    whether a proven peer is taken: `Acceptance`
    answering.py     the calls that are answered later: `Answering`
    streaming.py     streamed replies on their way out
    streamed.py      streamed replies as they come: `StreamedReply`
    bodies.py        the bodies of blobs, both ways: `Bodies`
    body_sender.py   one on its way out
    body_reader.py   one as its program reads it
    gate.py          waiting on either kind of reactor
    lateness.py      how long a peer without a session may take
    misunderstandings.py  what one side didn't understand of the other, in the log, bounded
    tracing.py       what calls are a part of: `trace_context`
    traffic.py       what goes over links, counted: `Traffic`
    drains.py        the Deferreds of `drain`: fired when there is room again
    failing.py       calls that fail at once, as there is no link
    load.py          what a peer's messages have set going, bounded
    tap.py           what a transport pauses and resumes
    eager.py         writing to a socket at once
    polling.py       staying awake while the next message is about to come
"""
