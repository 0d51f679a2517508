"""
The releases: ``site`` serves them on a port of their own.
"""
