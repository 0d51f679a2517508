"""
The domain, pure: what a build is, for every process. The modules, from the bottom up::

    names       the rules for names, refs and addresses that come from outside
    scopes      what tokens may do
    roles       what people may do, and what is left of it to their tokens
    protection  from which refs a project publishes for its users
    places      addresses at which no repository is: a machine's own, metadata services
    states      the states of attempts and releases, and which transitions exist
    logs        records, batches, digests
    gist        what a log says of its build in a few words
    frames      messages as WebSocket frames, for server and web
    access      how a private repository is read: what a checkout is given, host keys
    settings    what a project says of how it is built
    environments  of which environment of its project a build is
    secrets     which steps of which builds a secret is for
    variables   which environment variables may be set, and for which builds
    hosts       what other hosts call what a build is told
    registries  from where packages are installed, and how their managers are told
    host_rules  hosts that builds may reach, as people write them
    egress      the network that builds may have, and what they contacted
    isolation   what keeps a build from reaching more than its own
    attempt     what is to be done in an attempt, what was found, how it ended
    word        what the apiserver believes of how a builder says that an attempt ended
    messages    what builder and apiserver say to one another
    needs       what a build needs of the builder that takes it
    provenance  where something that was built comes from: statements, and their envelopes
    caches      what builds keep for the next ones
    toml        TOML files of strangers
    outputs     the folders that builds write
    recognition what a project is: framework, package manager, how it is built, and why
    explanations  a failed step's last output -> its cause and cure
    plan        a checked-out project -> its steps
    lfs         what a pointer to a large file looks like

No file, no output, no clock, no environment, no Twisted: everything here runs in the runner, the builder and the
apiserver alike, and gives the same for the same arguments.
"""
