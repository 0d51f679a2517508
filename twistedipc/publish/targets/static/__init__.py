"""
A static release: what was built, served by the apiserver.

``target`` (what it is for the platform), ``releases`` (take in, switch, roll back), ``release`` (one release, by its
index), ``pool`` (the contents of its files, each once), ``folders`` (releases as older versions left them),
``variants`` (contents compressed), ``history`` (which names have changed, and which releases were live), ``headers``
(with which headers a release is served), ``hashed_names`` (which names have a hash of the content in them),
``comparing`` (what a release has other than another).
"""
