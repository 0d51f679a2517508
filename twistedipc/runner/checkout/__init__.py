"""
The checkout step: ``python -m twistedipc.runner.checkout FOLDER``, started by ``course``; its output is the log.

The repository's bare mirror, shared by all attempts, is brought up to date under a lock; the ref is resolved to a full
commit id; the commit's objects are verified; a working copy that borrows the mirror's objects is made of that commit;
checkout.json says what was found.
The modules, from the bottom up::

    git             how git is run: nothing in a repository can make it run anything
    credentials     the deploy key or the token, for the repository's own host alone
    failures        why a repository couldn't be fetched, in a sentence                   (no I/O)
    contents        what may lie in a mirror: all else makes it a bad one
    verification    whether the objects that are checked out are what their ids say
    mirror          a repository's bare mirror
    refs            what was asked for -> a commit of the mirror
    protecting      which protected ref has the commit
    submodules      where submodules are, and from where they come
    lfs             the files that a repository keeps in Git LFS
    working_copy    the whole checkout
    remote          a process of its own, of no attempt: what a repository's host has
    pushing         a step of its own, after packing: a commit with the versions of packages is pushed

A mirror is believed in nothing: what doesn't belong in it makes it a bad one, its configuration is written each time,
and what is checked out of it is verified. A bad one is thrown away and fetched again, once.
"""
