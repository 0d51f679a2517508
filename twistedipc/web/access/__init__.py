"""
Who is calling, what they may do, and what their token holds open.

- ``auth``: tokens, sessions and tickets; where requests may come from
- ``cookies``: the cookie of a browser's session
- ``oidc``: what a provider of OpenID Connect says, and whether it can be believed; ``provider``: it over the network
- ``domains``: which host names are projects' own, and where their releases are
- ``visits``: who may see releases that are for the team; ``guests``: who sees previews by a password; ``audience``:
  for whom which are
- ``refusals``: failed sign-ins, counted for the audit
- ``held``: everything that a token holds open, which ends with the token
"""
