"""
A static release: what was built, served by the apiserver.

``target`` (what it is for the platform), ``releases`` (unpack, switch, roll back), ``history`` (which names have
changed, and which releases were live), ``serving`` (how a release is served), ``headers`` (with which headers),
``hashed_names`` (which names have a hash of the content in them).
"""
