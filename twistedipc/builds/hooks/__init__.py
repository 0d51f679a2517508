"""
What a repository's host tells of a push or a pull request, and what is made of it. Pure: bytes and headers go in, a
verdict comes out. The modules, from the bottom up:

    events    what all kinds of hosts tell, in one form
    reading   JSON of strangers as what it must be
    github, gitlab, gitea, plain   one kind each: its payloads become events (Forgejo's are Gitea's)
    signing   that a message comes from somebody who has the secret
    kinds     which kind a request is of; the table
    settings  what a project says of its hooks
    deciding  whether an event builds, and what
"""
