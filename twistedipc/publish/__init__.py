"""
What happens to what was built.

``targets`` (the places to publish to: what a target is, which there are, and a folder for each), ``pack`` and
``deliver`` (the steps that make what is to be published, and publish it: processes of an attempt, which its runner
starts by ``__main__``), ``compare`` (a step that compares what is stored with what is published; ``compared`` is what
it finds), ``archive`` (a folder <-> one deterministic archive with a manifest; ``whole``: the same for people;
``members``, what a stranger's tar may have written into one), ``output`` (which folder that is), ``budgets`` (whether
it is too large), ``permits`` (whether an attempt may publish), ``stored`` (what is said to the apiserver's process
that publishes, and by it), ``record`` (the steps of a publication, as they are written down), ``ask`` (a process of
the apiserver's that asks registries; ``asking``, what it is asked and says), ``site`` (what answers to an address of a
site), ``site_paths`` (which names the files of a site can have), ``npm`` (a name for runners of version 0.1).
"""
