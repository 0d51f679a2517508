"""
Npm packages, published to a registry.

``target`` (what they are for the platform), ``selection`` (which packages of a project, in which order), ``packers``
(whether npm or the project's own manager packs one), ``pack`` (their part of the pack step), ``package`` (what a
tarball says of itself, and the rules for it; of these, ``dependencies`` and ``entry_points``), ``deliver`` (the step
that publishes them), ``publishing`` (what is asked, tried and believed of one on its way into the registry),
``answers`` (what npm's answers mean), ``compare`` (what packages would change; of these, ``manifests``).
"""
