"""
The network of an attempt: what its steps reach, and the ledger of what they contacted. The runner uses ``attempt``.
The modules, from the bottom up::

    hosts      which hosts a step may reach: private addresses, verdicts        (no I/O)
    resolving  the little of the DNS that is spoken                              (no I/O)
    proxying   what clients ask a proxy                                          (no I/O)
    contacts   the egress ledger                                                 (no I/O)
    engines    the programs that connect a namespace                             (no I/O)
    rtnetlink  the routes of a namespace
    sniffing   what leaves a namespace without the gate
    holder     the process that holds a namespace
    splicing   one connection through it
    gate       the way out: resolver, proxy, hosts
    attempt    an attempt's gate, as its runner sees it
    probe      which engine works on this machine

``python -m twistedipc.isolation.network`` is the gate's process.
"""
