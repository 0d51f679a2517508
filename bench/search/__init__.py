"""Search in sealed logs: the first hit, the exact count, and what they take."""
