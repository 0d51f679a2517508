"""
`twistedipc chaos`: the proof that nothing is lost. Both services as real processes, oracle builds, viewers on real
WebSockets, and faults by a seed; then a table of counts, every one of which must be 0.

``plan`` (a seed → the faults), ``oracle`` (what a build prints, and what a viewer must see of it), ``proxy`` (between
the services, to cut and hold their link), ``viewers``, ``disk`` (a small file system that can be filled),
``experiment`` (all of it together) and ``report`` (the table).
"""
