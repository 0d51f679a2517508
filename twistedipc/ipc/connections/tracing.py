"""
The trace context that goes with calls: `trace_context`. Used by ``link``, and by ``plain`` where a format has a place
for it.

It is a text that the library carries and doesn't look at, a ``traceparent`` of W3C say. What is set where a call is
made is set where it is answered, and so in the calls that its handler makes.
"""

from __future__ import annotations

from contextvars import ContextVar

#: What the running code is a part of: a text of up to 512 characters (more are cut off), which goes with each call over
#: a link. A handler of a call finds the caller's there. "" is none
trace_context = ContextVar("trace_context", default="")
