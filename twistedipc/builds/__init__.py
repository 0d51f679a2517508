"""
The domain, pure: what a build is, said once for every process.

``states`` (which transitions exist), ``logs`` (records, batches, digests), ``attempt`` (the contract on disk
between builder and runner), ``plan`` (a checked-out project → its steps), ``messages`` (what builder and
apiserver say to one another), ``names`` (the rules for names, refs and addresses that come from outside).

No I/O, no Twisted, no clock: everything here runs in the runner, the builder and the apiserver alike.
"""
