"""
The places to which a project can publish.

``target`` (what a target is), ``registry`` (which there are, and their settings read and written), and a folder for
each: ``static`` (a release that the apiserver serves) and ``npm`` (a package in a registry).
"""
