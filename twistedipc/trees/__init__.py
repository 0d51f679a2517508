"""
The files of a project where they are, as `builds.recognition` reads them; for the runner and for `inspect`.

- ``folder``: a folder on disk, such as a working copy
- ``git``: a commit of a git repository
"""
