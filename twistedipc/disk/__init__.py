"""
What every process of the platform asks of its disk. Bottom layer; imports nothing of the package.

``calls`` (the system's calls by which files are written, as a type), ``files`` (a file is there whole or not at all,
and survives a power cut), ``beneath`` (folders whose content is somebody else's, without following a link).
"""
