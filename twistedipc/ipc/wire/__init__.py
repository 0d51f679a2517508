"""
What goes over a wire, and the rules for it. No Twisted, no clock, no socket: bytes, messages and the time go in; bytes,
messages and deadlines come out.

    framing.py       complete lines out of chunks, bounded
    messages.py      msgspec structs <-> lines of JSON: `Vocabulary`
    interface.py     what two sides say to one another, declared once: `Interface`, `Message`, `Request`
    handshake.py     the first frames, and what they prove
    schema.py        the JSON Schema of what is declared, and the fingerprints of its parts
    compatible.py    what breaks between two versions of an interface
    catalogue.py     what one side takes, as it tells the other
    keyring.py       the named keys that one side knows
    identity.py      who the peer is: what is proven of it, and what is its own word
    names.py         which link has which name, and what becomes of a second peer of one
    settings.py      what one side brings to its links
    greeting.py      one side's way through the handshake
    outgoing.py      this side's calls that wait for their replies
    incoming.py      the peer's calls that this side hasn't answered
    silence.py       how long the peer has been silent, and what follows from it
    states.py        the states of a session, and the table of its steps
    fastpath.py      what nearly all frames go through: whole blocks, without a call in Python for each frame
    session.py       one link: handshake, messages, calls, heartbeat, its end
    windows.py       the rules of reliable streams: numbers, acknowledgements, windows
    blob.py          a large body, as a field of a request or a reply: `Blob`
    bodies.py        the frames by which it follows its message
    items.py         arrays of items, of streams and streamed replies
    credit.py        how much may be under way
    conversation.py  what the formats without a session share: events, calls that wait
    plain.py         the plain profile: lines of JSON without a session
    jsonrpc.py       JSON-RPC 2.0
    methods.py       how a class is a method of it
    answers.py       its errors and their numbers, and the answers to a batch
    content_length.py  its two framings
    node_channel.py  Node's own `process.send()` channel
    finite.py        finds NaN and infinity, which JSON doesn't have
    errors.py        the exceptions of the whole library, and the codes on the wire
"""
