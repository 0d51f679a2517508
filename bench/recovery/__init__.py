"""How soon is everything well again after a fault, and what does it cost? Run by ``python -m bench.recovery``."""
