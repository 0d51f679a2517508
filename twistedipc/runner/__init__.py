"""
The runner: one attempt of a build, as a process of its own. Spawned by ``builder``; knows no Twisted, no link, no
apiserver, so that neither half's death is its own.

``python -m twistedipc.runner FOLDER [LOCKFD]`` works in the attempt's folder (``attempts/folder.py`` says what is
in it) and exits when ``result.json`` is there. The modules, from the bottom up::

    spelling    how a secret can stand in output: plain, and as tools write it     (no I/O)
    masking     bytes -> the same bytes without secrets, over every split          (no I/O)
    capture     bytes -> numbered records in batches                               (no I/O)
    control     the builder's words: a FIFO, `cancel`, `permit`; the bell back to it
    order       which place in its output a message of a step has                  (no I/O)
    speech      what a build says on its channel: bytes -> messages -> records     (no I/O)
    channel     the UNIX socket on which it says it
    conversation  a step's output and messages, in their order
    ports       what a runner takes from outside, as types                         (no I/O)
    attempt_log what is captured, into the journal, and the wait for a full disk
    stepclock   what is to be done next for a step, and when                       (no I/O)
    node        `node` for builds, whose `process.send()` is that channel (with `ordered.cjs`)
    say         `twistedipc-say` for builds, and the module for their Python programs
    steps       one step: a command's process, its output, its end, as ``stepclock`` says
    course      the whole attempt: checkout, the plan's steps, pack, publish, the result
    checkout    a process too: `python -m twistedipc.runner.checkout FOLDER`, the first step

The folder and its rules (files, journal, lock, control group, room) are ``twistedipc.attempts``.
"""
