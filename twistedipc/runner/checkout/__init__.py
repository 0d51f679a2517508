"""
The checkout step: ``python -m twistedipc.runner.checkout FOLDER``, started by ``course``; its output is the log.

The repository's bare mirror, shared by all attempts, is brought up to date under a lock; the ref is resolved to a full
commit id; a working copy that borrows the mirror's objects is made of that commit; checkout.json says what was found.
The modules, from the bottom up::

    git             how git is run: nothing in a repository can make it run anything
    credentials     the deploy key or the token, for the repository's own host alone
    failures        why a repository couldn't be fetched, in a sentence                   (no I/O)
    mirror          a repository's bare mirror, and its lock
    refs            what was asked for -> a commit of the mirror
    protecting      which protected ref has the commit
    submodules      where submodules are, and from where they come
    lfs             the files that a repository keeps in Git LFS
    working_copy    the whole checkout

That nothing runs doesn't hold against other builds on this builder: they run as the same user, and can write into the
mirror (docs/operating.md says what builds can reach).
"""
