"""Agreeing on permessage-deflate (RFC 7692) with a client. ``web.live``; used by ``viewers``."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept


def accept_deflate(offers: Sequence[object]) -> PerMessageDeflateOfferAccept | None:
    """
    Accept the first offer of permessage-deflate (RFC 7692) that can be met, if any. Each message is compressed by
    itself, in both directions. The server's messages are compressed once for all viewers, so a client that wants a
    smaller window gets no compression.
    """
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer) and offer.request_max_window_bits in (0, zlib.MAX_WBITS):
            wanted = PerMessageDeflateOffer(
                accept_no_context_takeover=True,
                accept_max_window_bits=offer.accept_max_window_bits,
                request_no_context_takeover=True,  # in the answer even if the client didn't ask for it (7.1.1.1)
                request_max_window_bits=offer.request_max_window_bits,
            )
            return PerMessageDeflateOfferAccept(wanted, request_no_context_takeover=True)
    return None
