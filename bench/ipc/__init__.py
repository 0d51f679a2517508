"""Two processes that talk: one way, by calls, by round trips. Ours and others; see ``__main__``."""
