"""
Who is calling, what they may do, and what their token holds open.

- ``auth``: tokens, sessions and tickets; where requests may come from
- ``cookies``: the cookie of a browser's session
- ``oidc``: what a provider of OpenID Connect says, and whether it can be believed; ``provider``: it over the network
- ``visits``: who may see releases that are for the team; ``audience``: which are
- ``refusals``: failed sign-ins, counted for the audit
- ``held``: everything that a token holds open, which ends with the token
"""
