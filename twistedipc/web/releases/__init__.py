"""
The releases: ``site`` serves them on a port of their own; ``single_page`` says which addresses are pages of an
application, to which no files belong.
"""
