"""
The builder's own Node and package managers: chosen for a project, fetched from a package registry, kept in a store.

``python -m twistedipc.toolchains FOLDER`` is the step ``toolchain`` of an attempt, which looks up and fetches what the
store lacks. Where nothing is lacking, the runner takes what is there without such a step (``ready``). The modules, from
the bottom up::

    wanted      what a project asks for, and what the steps of its build get                         (no I/O)
    problems    what can be wrong with a tool                                                        (no I/O)
    versions    versions and ranges, as npm has them; the words that Node's version managers know    (no I/O)
    integrity   what a package must be: the registry's hashes, and packageManager's                  (no I/O)
    machine     this machine: its platform, and what is on the PATH of its builds
    packages    which package of the registry has a tool, and what its commands are                  (no I/O)
    unpack      a package's archive -> a folder, with a bound on everything
    store       the folder that all attempts of a builder share
    registry    what a package registry is asked, with deadlines
    linter      publint, which looks at packages: in the store, or why it isn't
    choose      the policy: which Node, and which manager
    ready       what was chosen -> PATH and variables of a build's steps
    fetch       what was chosen and isn't in the store yet -> the store

No Twisted, so that a runner can use it.
"""
