"""
The builder, ``twistd buildipc``: it runs attempts and forwards their journals. It holds no database and no user,
and no line that isn't on disk.

``service`` (the whole, and one data folder's owner) holds ``held`` attempts (one folder each, by its phase),
``doorbell`` (runners say that there is something new), ``forwarding`` (journals → link, in turn and within credit),
``offers`` (what can't be taken, and why), ``upload`` (archives → the apiserver) and ``link`` (what the apiserver says
becomes what is done).
"""
