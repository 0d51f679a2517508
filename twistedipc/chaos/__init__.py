"""
`twistedipc chaos`: the proof that nothing is lost. Both services as real processes, oracle builds, viewers on real
WebSockets, and faults by a seed; then a table of counts, every one of which must be 0.

``plan`` (a seed → the faults), ``oracle`` (what a build prints, and what a viewer must see of it), ``platform`` (both
services in a folder), ``proxy`` (between them, to cut and hold their link), ``disk`` (a small file system that can be
filled), ``database`` (under the ledger), ``postgresql`` (a server of one's own), ``damage`` (to journals), ``viewers``
and ``workload`` (builds, and viewers of them), ``strangers`` (garbage and floods), ``injections`` (what each fault
does), ``audit`` (a look at everything in the end), ``experiment`` (all of it together), ``outcome`` and ``report`` (the
table). ``command`` is what people call.
"""
