"""
S3, and what answers as it does: the one way in which the platform puts objects there, reads, lists and removes them.

``bucket`` has all of it; ``trying`` says whether one can be used. It stands on boto3, which signs, retries and finds
credentials, and which is imported when the first object is asked for: an apiserver without S3 doesn't load it. What is
kept there, and under which names, is the callers' (``storage``). No Twisted: whoever has a reactor calls it in threads.
"""
