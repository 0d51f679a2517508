"""
The page: ``resource`` serves the files of the folder ``static``, and the documentation (``documentation``).
"""
