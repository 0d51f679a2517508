"""
The domain, pure: what a build is, for every process. The modules, from the bottom up::

    names       the rules for names, refs and addresses that come from outside
    counts      numbers of things in sentences
    scopes      what tokens may do
    roles       what people may do, and what is left of it to their tokens
    origin      where a build came from that no person asked for
    hooks       what a repository's host tells of a push, and what is made of it
    labels      what previews of sites are called in host names
    domains     host names of projects beside those that the platform gives
    cron        when a schedule is due
    protection  from which refs a project publishes for its users
    priorities  in which order builds are taken from the queue
    places      addresses at which no repository is: a machine's own, metadata services
    states      the states of attempts and releases, and which transitions exist
    logs        records, batches, digests
    gist        what a log says of its build in a few words
    frames      messages as WebSocket frames, for server and web
    access      how a private repository is read: what a checkout is given, host keys
    settings    what a project says of how it is built
    retention   how long what builds leave is kept, and what is never removed
    environments  of which environment of its project a build is
    secrets     which steps of which builds a secret is for
    variables   which environment variables may be set, and for which builds
    inputs      what a build is given beside its repository, to compare
    hosts       what other hosts call what a build is told
    registries  from where packages are installed, and how their managers are told
    host_rules  hosts that builds may reach, as people write them
    egress      the network that builds may have, and what they contacted
    isolation   what keeps a build from reaching more than its own
    lint        what publint says of what was packed
    versions    how versions of packages are raised, and what a preview of a package is called
    attempt     what is to be done in an attempt, what was found, how it ended
    remotes     questions to a repository's host without a build, and the answers
    word        what the apiserver believes of how a builder says that an attempt ended
    messages    what builder and apiserver say to one another
    needs       what a build needs of the builder that takes it
    provenance  where something that was built comes from: statements, and their envelopes
    caches      what builds keep for the next ones
    toml        TOML files of strangers
    outputs     the folders that builds write
    site        how a site wants to be served: redirects, headers
    recognition what a project is: framework, package manager, how it is built, and why
    explanations  a failed step's last output -> its cause and cure
    templates   what stays the same of a line from run to run
    causes      a failed step's output -> the line that says what is wrong
    plan        a checked-out project -> its steps
    lfs         what a pointer to a large file looks like

No file, no output, no clock, no environment, no Twisted: everything here runs in the runner, the builder and the
apiserver alike, and gives the same for the same arguments.
"""
