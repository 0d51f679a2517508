"""
What happens to what was built. Pack and npm are processes of an attempt, started by the runner; releases belong to the
apiserver.

``archive`` (a folder <-> one deterministic archive with a manifest), ``pack`` (the step that makes the archive and the
npm package), ``npm`` (the step that publishes the package), ``releases`` (unpack, switch, roll back), ``site_paths``
(which names the files of a site can have), ``hashed_names`` (which have a hash of the content in them), ``history``
(which names have changed, and which releases were live).
"""
