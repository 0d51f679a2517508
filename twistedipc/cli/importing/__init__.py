"""
What other hosts' configuration says of how a project is built, as settings of this platform. The modules, from the
bottom up::

    imported    what was found: settings, variables, and what can't be carried over, each with its file and line
    positions   YAML, JSON and TOML with the lines that their values are on
    commands    what a command line does: install, build, check
    redirects   _redirects and _headers
    rules       redirects and headers of the two that follow
    vercel      vercel.json
    netlify     netlify.toml
    workflow    .github/workflows/*.yml
    everything  all of them, in one folder
    written     the settings as a .twistedipc.toml

All of it is pure, on a `builds.recognition.tree.Tree`; the command is ``cli.imports``.
"""
