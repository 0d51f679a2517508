"""
One connection on a Twisted transport, in each of its formats, and what the formats share.

    peer.py          the seam to what is built on a link: `Peer`, `Application`
    link.py          a session on a transport: `JSONLineProtocol`
    plain.py         the plain profile on a transport: `PlainProtocol`
    node.py          Node's own channel on a transport: `NodeConnection`, `NodePeer`
    drains.py        the Deferreds of `drain`: fired when there is room again
    load.py          what a peer's messages have set going, bounded
    tap.py           what a transport pauses and resumes
    eager.py         writing to a socket at once
    polling.py       staying awake while the next message is about to come
    failing.py       calls that fail at once, as there is no link
"""
