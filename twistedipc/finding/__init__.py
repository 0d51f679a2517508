"""
Search in the text of logs: what is asked for, and the lines of a block that match. Pure: no database, no Twisted, no
clock. Used by ``server``, which reads the blocks and shares its threads among searches.

- ``query``: what somebody asks for, checked, as one RE2 program
- ``syntax``: reads a regular expression: what RE2 takes and a search doesn't, and which literals each match holds
- ``literals``: where plain strings are in a text, which is found several times as fast
- ``blocks``: consecutive records as one text, and the lines of it that match
- ``scanning``: the work of a search: several blocks, one after the other
- ``messages``: what a search says, to whom it is for
- ``texts``: what of a log's messages is searched
- ``shown``: a text as people see it, without escape sequences
"""
