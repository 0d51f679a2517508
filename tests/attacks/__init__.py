"""
Builds that attack. Each of ``scripts/`` is what a build runs: it prints ``REACHED`` and what, if it got what no build
may have. ``test_walls`` runs each behind the walls, where none may succeed, and ``test_second`` where Landlock
confines the steps. ``test_without`` runs them on a builder with ``isolation = "none"``, where all but those of
`world.HELD_ANYWAY` succeed: so none of them can pass for want of trying.

``facts.py`` is put beside each script, with what an attacker could know or guess of the machine.
"""
