"""
Why an offer is declined, in sentences that can be sent. Used by ``duties``.
"""

from __future__ import annotations

from twistedipc.builds import names, protection, settings, variables
from twistedipc.builds.messages import Offer
from twistedipc.publish.targets.registry import offered

#: The most characters of a reason that is sent.
REASON_LIMIT = 500


def why_impossible(offer: Offer) -> str:
    """Return what is wrong with the offer itself, in a sentence; "" if nothing is."""
    try:
        names.attempt(offer.attempt)
        names.lease(offer.lease)
        names.project(offer.project)
        names.repository(offer.repository, local=True)  # which ones are allowed is the apiserver's to say
        names.ref(offer.ref)
        protection.check(offer.protected)
        settings.checked(offer.settings)
        variables.check(offer.environment)
        variables.check(offer.parameters)
        offered(offer.targets, offer.publish)
    except names.BadValue as error:
        return str(error)
    return ""


def why_no_uploads(url: str, *, allow_plain_http: bool) -> str:
    """Return why nothing is uploaded to this address, in a sentence; "" if it may be."""
    if allow_plain_http or not names.open_road(url):
        return ""
    return (
        f"what is built would be uploaded to {url}, where others on the way can read and change it: give the apiserver "
        "an https address (http.public_url, or apiserver_url in builder.toml), or set allow_plain_http = true in "
        "builder.toml"
    )


def why_failed(error: Exception) -> str:
    """Return a sentence, for people, about the error that kept the builder from writing an attempt down."""
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        reason = f"the builder can't write the attempt down: {error.strerror}{where}"
    else:
        reason = f"the builder failed at the offer: {type(error).__name__}: {error}"
    return sendable(reason)


def sendable(reason: str) -> str:
    """Return the reason as a link can carry it: not too long, and without characters that JSON can't hold."""
    return reason[:REASON_LIMIT].encode("utf-8", "replace").decode("utf-8")
