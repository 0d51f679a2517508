"""
The corpus: projects as teams have them, built by the platform with nothing configured, and looked at.

``python -m tests.corpus`` (``make corpus``) makes each project's repository, starts both services, builds, and looks at
what is served: the first page, a deep link, a path that isn't there, and each script and style sheet of the first page.
It needs the package registry that npm is set up for, and nothing else from a network.

========= ==========================================================
projects  the rows: what each project is, and what is right for it
scaffolds makes a project's repository, by a scaffold or from files
look      what is served of a release, looked at
========= ==========================================================
"""
