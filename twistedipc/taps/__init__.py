"""
The composition roots of ``twistd apiserver`` and ``twistd buildipc``: options, configuration, and the one place
where the parts are put together and the reactor is imported. Top layer; found through ``twisted/plugins``.
"""
