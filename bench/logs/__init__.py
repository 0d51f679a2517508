"""Stored logs: what they take, what sealing them costs, and how soon a page of a huge one is there."""
