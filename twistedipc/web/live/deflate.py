"""Agreeing on permessage-deflate (RFC 7692) with a client. ``web.live``; used by ``viewers``."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept


def accept_deflate(offers: Sequence[object]) -> PerMessageDeflateOfferAccept | None:
    """
    The first offer of permessage-deflate (RFC 7692) that we can take. Each message, ours and the client's, is
    compressed by itself. Ours were compressed for everybody, so a client that wants a smaller window gets none of it.
    """
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer) and offer.request_max_window_bits in (0, zlib.MAX_WBITS):
            wanted = PerMessageDeflateOffer(
                accept_no_context_takeover=True,
                accept_max_window_bits=offer.accept_max_window_bits,
                request_no_context_takeover=True,  # said in the answer, also to who didn't ask for it (7.1.1.1)
                request_max_window_bits=offer.request_max_window_bits,
            )
            return PerMessageDeflateOfferAccept(wanted, request_no_context_takeover=True)
    return None
