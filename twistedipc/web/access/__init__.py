"""
Who is calling, what they may do, and what their token holds open.

- ``auth``: tokens, sessions and tickets; where requests may come from
- ``cookies``: the cookie of a browser's session
- ``visits``: who may see releases that are for the team; ``audience``: which are
- ``refusals``: failed sign-ins, counted for the audit
- ``held``: everything that a token holds open, which ends with the token
"""
