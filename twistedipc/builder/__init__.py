"""
The builder, ``twistd buildipc``: it runs attempts and forwards their journals. It holds no database and no user,
and no line that isn't on disk.

The modules, from the bottom up; imports point upwards in this list only::

    settings    the operator's settings, and the specs that follow from them
    ports       what the builder takes from outside, as types
    reactor     what the real things behind the ports need of a reactor
    data        the data folder: its lock, the attempts' folders, how full its disk is
    doorbell    the socket on which runners say that there is something new
    runners     runners as processes
    mirrors     the end of mirrors that nothing uses any more
    remotes     what repositories' hosts are asked without a build, each by a process
    tidying     the process that tidies what builds keep for the next ones
    offers      what can't be accepted, and why
    upload      one try to get an archive to the apiserver
    uploading   how the tries of one archive go
    life        the states of an attempt on this builder, as a table                     (no I/O)
    patience    how long something is tried again that the disk doesn't give             (no I/O)
    outgoing    one attempt's log on its way out
    held        one attempt: its folder, its life, what is sent of it
    registry    all attempts that are held
    workflows   the coroutines that run
    link        one connection to an apiserver, and which of them is in use
    tooling     which tools were fetched, for people
    forwarding  journals -> link, in turn and within credit
    handing     secrets, and what is stored already, from the apiserver to runners
    publishing  permits for runners, uploads of what was built
    looking     takes each attempt as far as its folder, its runner and the apiserver allow
    duties      what the apiserver says becomes what is done: sync, offers, orders
    service     start and stop
    compose     all of it, put together on the real reactor
"""
