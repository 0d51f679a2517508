"""What do years of history cost? Run by ``python -m bench.history``."""
