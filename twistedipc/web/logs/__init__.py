"""
A log as one HTTP response.

- ``stream``: the response, which may last as long as the build
- ``forms``: the forms of its body: messages, text, text with colours
- ``messages``: the messages that aren't part of the build's own log
"""
