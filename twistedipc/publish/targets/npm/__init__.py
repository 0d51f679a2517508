"""
An npm package, published to a registry.

``target`` (what it is for the platform), ``scripts`` (those of a package.json that npm runs when it packs), ``pack``
(its part of the pack step), ``package`` (what a tarball says of itself, and the rules for it; of these,
``dependencies`` and ``entry_points``), ``deliver`` (the step that publishes the package), ``publishing`` (what is
asked, tried and believed on the way into the registry), ``answers`` (what npm's answers mean).
"""
