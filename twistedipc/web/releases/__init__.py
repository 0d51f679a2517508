"""
The site of the releases, on a port of their own: ``site`` answers as ``publish.site`` decides, ``representation`` says
which content of a file is sent and what may be kept of it, ``pages`` has the pages whose links name their release,
``ready`` has the answers that were given before, ``origin`` says from which release's page a request comes, ``gate``
lets in whom releases that aren't public are for (``password_page``: by a password), and ``unencrypted`` leads from http
to https.
"""
