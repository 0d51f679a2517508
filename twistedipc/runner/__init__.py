"""
The runner: one attempt of a build, as a process of its own. The builder spawns it. It knows no Twisted, no link and no
apiserver, so that it outlives the death of either half.

``python -m twistedipc.runner FOLDER [LOCKFD]`` works in the attempt's folder (``attempts/folder.py`` says what is
in it) and exits when ``result.json`` is there. The modules, from the bottom up::

    spelling    how a secret can stand in output: plain, and as tools write it     (no I/O)
    masking     bytes -> the same bytes without secrets, over every split          (no I/O)
    capture     bytes -> numbered records in batches                               (no I/O)
    control     what the builder tells it: a FIFO, `cancel`, `permit`; the bell back to the builder
    order       which place in its output a message of a step has                  (no I/O)
    speech      the messages on a step's channel: bytes -> messages -> records     (no I/O)
    commands    lines that are commands for other platforms -> messages             (no I/O)
    problems    errors that tools print -> annotations: the table of how they look  (no I/O)
    printed     output -> the same output, and messages for what tools print in it  (no I/O)
    channel     the UNIX socket on which a step's programs send them
    interleaving  a step's output and messages, in their order
    ports       what a runner takes from outside, as types                         (no I/O)
    attempt_log what is captured, into the journal, and the wait for a full disk
    stepclock   what is to be done next for a step, and when                       (no I/O)
    aliases     another name for a folder that has a colon in its own
    node        `node` for builds, whose `process.send()` is that channel (with `ordered.cjs`)
    say         `twistedipc-say` for builds, and the module for their Python programs
    steps       one step: a command's process, its output, its end, as ``stepclock`` says
    tools       the Node and the package managers of a build's steps
    secrets     the secrets of the attempt, asked for before it begins
    environment  the environment of each step                                      (no I/O)
    modules     node_modules: what they depend on, and whether a build changed them
    keeping     what the attempt takes over from earlier builds, and leaves to later ones
    explaining  what is said of a step that has ended: the cause of its failure and the cure
    registries  the configuration by which package managers find the project's registries
    findings    what a step of the platform's own has found, checked
    reaching    what each step can see and use
    networking  what each step may reach of the network, and what it was refused
    versioning  the versions that the attempt gives its packages
    from_store  a process of the apiserver's: the step that publishes what is stored there, and no other
    checking_out  what the checkout step is given, and what it has found
    course      the whole attempt: checkout, the plan's steps, pack, publish, the result
    remote      a process of no attempt: it has a repository's host asked, as a checkout would ask it
    checkout/   a process too: `python -m twistedipc.runner.checkout FOLDER`, the first step

The folder and its rules (files, journal, lock, control group, room) are ``twistedipc.attempts``.
"""
