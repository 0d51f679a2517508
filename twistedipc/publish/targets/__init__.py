"""
The places to which a project can publish, a folder for each: ``static`` (a release that the apiserver serves) and
``npm`` (a package in a registry).
"""
