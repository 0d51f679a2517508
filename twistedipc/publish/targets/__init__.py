"""
The places to which a project can publish.

``target`` (what a target is), ``registry`` (which there are, and their settings read and written), ``unknown`` (what a
project says of one that isn't known here), ``fields`` (what people may set, for options and forms), ``differences``
(what a release has other than another), and a folder for each: ``static`` (a release that the apiserver serves) and
``npm`` (a package in a registry).
"""
