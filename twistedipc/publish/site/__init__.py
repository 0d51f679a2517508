"""
How a site is served: what answers to an address of it. The modules, from the bottom up::

    addresses  clean addresses, slashes, the nearest page for what isn't found
    pages      which addresses are pages of a single-page application
    matching   the rules for an address, found fast
    answers    all of it together: a file, a redirect, or nothing
    links      which scripts and styles a page links to
    checking   what is wrong with the rules of a site that is packed, loops, and links that lead nowhere
    marks      the release in the addresses of these, so that an open page finds its own
    files      reads ``_redirects`` and ``_headers`` of a folder

All but ``files`` is pure. The rules are those of ``builds.site``.
"""
