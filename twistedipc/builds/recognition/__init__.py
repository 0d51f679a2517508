"""
What a project is, recognised from its files. Pure: it is given a `tree.Tree` and reads what it needs. The modules, from
the bottom up::

    tree        the files of a project, wherever they are
    recognised  what was recognised: the answer's types
    paths       paths inside a repository, and patterns of them
    reading     package.json and other files, with the lines on which things are
    frameworks  the table of frameworks
    angular     where Angular's builds are
    sites       whether a framework's build makes a site or a server, and where
    managers    the table of package managers, and which one a project wants
    nodes       which version of Node a project wants
    workspaces  several packages in one repository, and the tools that build them
    recognise   all of it together
    installed   what the project's install makes, where that can be told
"""
