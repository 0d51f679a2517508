"""
How a site wants to be served, beside its files: what its authors write, pure. From the bottom up::

    rules      a redirect, headers for addresses, and all of it together (`Serving`)
    sources    the address that a rule is for: segments, placeholders, a star
    targets    where a redirect leads, and what of the address goes into it
    lines      the lines of a file, and the mistakes in them
    redirects  ``_redirects``
    headers    ``_headers``, and which headers can be set
    said       ``[site]`` in ``.twistedipc.toml``
    kinds      what kind of file a path is of
    budgets    how much of a kind a site may have

The grammar of both files is Netlify's, with what Cloudflare Pages adds to ``_headers``. What is served by these rules
is decided in ``publish.site``.
"""
