"""A build's page in a real browser: how soon a log is seen, searched, followed. Run by ``python -m bench.browser``."""
