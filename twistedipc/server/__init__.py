"""
`twistd apiserver` without its HTTP: an attempt's life, the builders' links, the queue, the logs, the releases. On
``storage`` and ``ipc``; ``web`` stands on it, by the seams of ``boundaries``. From the bottom up:

- ``boundaries``: Protocols without logic; ``bell``: what wakes those who look into the ledger, and
  ``bell_postgresql``, ``bell_valkey``: what carries it to other apiservers; ``states``: the feed of changed states;
  ``workflows``: work that outlives a link; ``uploads``: tokens for uploads
- ``fanout``: from a builder's records to every viewer of a log; ``gists``: what builds say in brief
- ``resting``: builders that have declined; ``away``: builders that are gone; ``linked``: builders that are here
- ``builder_keys``: the keys by which builders link, and what the ledger says of each
- ``releasing``: releases on disk, as the ledger says; ``project_locks``: who may change them;
  ``precedence``: what gives way to what people wait for;
  ``tidying``: what is too old of them goes; ``pruning``: what the rules of retention don't keep goes;
  ``discarding``: files that no row needs any more
- ``lifecycle``: every transition of an attempt, and the only writer of attempts
- ``provenance``: what is signed of releases and packages
- ``passwords``: one-time passwords on their way; ``jobs``: what the process is told that publishes, and what it says
- ``delivering``: publishes what is stored; ``delivery_log``: what it adds to an attempt's log; ``rejecting``: takes
  back what is staged; ``comparing``: what packages would change; ``asking``: how registries are asked what is
  published; ``requesting``: what people ask to be done with that; ``watching``: what others have done with it
- ``outbox``: tells others outside what happens here; ``scheduling``: builds what is due;
  ``polling``: looks at repositories whose hosts send no hooks
- ``searching``: searches in logs; ``turns``: their turns, shared by people; ``diagnosing``: why builds failed, as
  their logs say it; ``archived``: how stored logs are read, wherever they are; ``sealing``: compresses what is stored
  of logs; ``filing``: where that goes
- ``permits``: permits to publish; ``secrets``: secrets for builds; ``target_secrets``: those for publishing
- ``slots``: what fills a builder's slots; ``writers``: which link writes which log;
  ``intake``: one log as its builder sends it
- ``builder_link``: one builder's link; ``builders``: builders that come and go
- ``waiting``: why a build waits; ``dispatch``: from the queue to a builder
- ``writes``: what a link writes, while its builder is its own; ``neighbours``: other apiservers on the same database,
  ``hearing``: what they change, ``shared_duties``: what one of them does for all
- ``compose``: all of it, wired
"""
