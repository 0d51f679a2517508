"""
WebSockets: logs and news, as they happen.

- ``websocket``: what is said on a socket, and the socket
- ``followers``: logs on sockets, one crowd for all who are at the same place
- ``lean``: an open socket in little memory
"""
