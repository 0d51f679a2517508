"""
The site of the releases, on a port of its own: ``site`` serves the files, ``single_page`` says which addresses are
pages of an application, and ``gate`` lets in whom releases that aren't public are for.
"""
