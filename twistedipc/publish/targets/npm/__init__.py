"""
Npm packages, published to a registry.

``target`` (what they are for the platform), ``selection`` (which packages of a project, in which order), ``packers``
(whether npm or the project's own manager packs one), ``pack`` (their part of the pack step), ``package`` (what a
tarball says of itself, and the rules for it; of these, ``dependencies`` and ``entry_points``), ``tarballs`` (reads one,
with bounds), ``deliver`` (the step that publishes them), ``course`` (the way of a set into the registry; of this,
``looking``, what the registry has of one), ``sets`` (whether packages fit one another), ``naming`` (which names they
can have), ``registry`` (what a registry is asked and says, as types), ``client`` (that by HTTP; of these, ``document``,
``manifest`` and ``hosted``, what is uploaded, ``exchanging``, what is given for an ID token, and ``refusals``, a
registry's answers understood), ``answers`` (contents compared), ``linting`` (publint looks at them), ``places`` (to
which registry one goes, and by what one signs in there), ``opening`` (a client of it), ``compare`` (what packages would
change), ``asking`` (tags, stages and deprecations of what is published), ``evidence`` (what of that somebody who
approves should see; of this, ``manifests`` and ``exported``), ``versioning`` (the versions that a build gives packages,
and what they say of one another; of that, ``json_strings``), ``changesets`` (versions that the project's own tool
makes), ``notes`` (what a changelog says of a version).
"""
