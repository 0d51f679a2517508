"""
Where the other side of a link is: endpoints, descriptors, child processes, and what proves its identity. Of ``wire``,
this room imports only the errors and what a named key is.

    endpoints.py     ``tcp:``, ``unix:`` and ``tls:`` strings
    tls.py           certificates, and what TLS says: imported when it is used
    inherited.py     ``fd:``, ``stdio:`` and ``systemd:``: descriptors that this process was given
    pipes.py         two descriptors as one transport
    ways.py          what a child is linked with: its standard input and output, or Node's channel
    child.py         a child process, and how it ends
    loop.py          asyncio's loop, as a reactor for links
    credentials.py   the user at the other end of a UNIX socket, as the kernel knows it
    unread.py        whether a peer is alive whose words aren't read, as the kernel knows it
    keys.py          key files
"""
