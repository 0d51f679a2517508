"""
The composition roots of ``twistd apiserver`` and ``twistd buildipc``: options, configuration, and the one place
where the parts are put together and the reactor is imported. Top layer; found through ``twisted/plugins``.

- ``apiserver`` and ``builder``: one service each; ``compose``: the web's half of the apiserver
- ``config``: the configuration files, as types; ``nodejs``: where Node is, for a new configuration
- ``replaying``: one attempt on this machine, without a builder
- ``audit_file``: the audit as a file; ``from_store``: the processes in which the apiserver publishes;
  ``asking``: those in which it asks registries; ``mail``: mail by SMTP, of a
  ``mail_server``
- ``joining``: how a builder elsewhere can meet an apiserver; ``checking``: whether it can, tried
- ``certificates``: those of the ports for browsers, from files
- ``identity``: who an apiserver is among several on one database
- ``common``: what both do alike; ``hangup``: SIGHUP reopens log files
"""
