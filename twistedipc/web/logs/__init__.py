"""
A log as one HTTP response.

- ``stream``: the response, which may last as long as the build
- ``forms``: the forms of its body: messages, text, text with colours
- ``found``: a search as such a response
- ``messages``: what a followed log says beside the log itself
"""
