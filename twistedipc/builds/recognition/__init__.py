"""
What a project is, recognised from its files. Pure: it is given a `tree.Tree` and reads what it needs. The modules, from
the bottom up::

    tree        the files of a project, wherever they are
    recognised  what was recognised: the answer's types
"""
