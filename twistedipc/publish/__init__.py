"""
What happens to what was built. Packing and the npm target are processes of an attempt, started by the runner; releases
belong to the apiserver.

``archive`` (a folder <-> one deterministic archive with a manifest), ``output`` (which folder that is), ``pack`` (the
step that makes the archive and the npm package), ``site_paths`` (which names the files of a site can have), ``targets``
(the places to publish to).
"""
