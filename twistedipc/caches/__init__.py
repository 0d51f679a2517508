"""
What a project's builds keep for its next builds: restored before the first step, saved after a success.

``store`` (one project's caches: restore, save, what is there), ``moving`` (folders moved and copied without following a
link), ``checking`` (whether a folder can be kept, and given to other builds), ``tidying`` (spares, ages and sizes, for
a process beside the builds, which ``__main__`` is).

A build gets a copy of its own, made before it is needed (a *spare*) and moved into its folder in no time: nothing that
the build writes can reach what others will get. What is saved is moved out of the attempt's folder, which goes anyway.
"""
