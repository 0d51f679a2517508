"""
The ledger's schema, as data. Used by the query modules, and by a test that holds ``migrations`` to it.

Only what SQLite and PostgreSQL have alike. Times are milliseconds since the epoch; structures are JSON in text,
written and read by ``columns``; an attempt's key is its build's id and its number, which its name is made of.
"""

from __future__ import annotations

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    event,
    false,
    text,
    true,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

# SQLite gives numbers by itself only to a column that is exactly INTEGER.
_Id = BigInteger().with_variant(Integer, "sqlite")

projects = Table(
    "projects",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", Text, nullable=False, comment="one label of a host name; unique among those not deleted"),
    Column("repository", Text, nullable=False, comment="an address for git"),
    Column("default_ref", Text, nullable=False, comment="what is built if a request names no ref"),
    Column("targets", Text, nullable=False, comment="JSON: as publish.targets.registry writes the settings of them"),
    Column("environment", Text, nullable=False, comment="JSON: variable -> value, for the steps"),
    Column("timeout", Float, nullable=False, comment="seconds for an attempt"),
    Column("idle_timeout", Float, nullable=False, comment="seconds without output"),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("deleted", BigInteger, comment="null: it exists; else since when it doesn't, for anyone"),
    Column("hold", Text, comment="null: releases go live by themselves; else JSON: storage.rows.Hold"),
    Column("settings", Text, comment="JSON: builds.settings.BuildSettings; null: none"),
    Column("head", Text, comment="the branch that the repository's HEAD stood for last; null: not known"),
    Column("on_lost", Text, comment='of a lost attempt: "rerun" it; null or "lost": do not'),
    Column("of_contexts", Text, comment="null: nothing; else JSON: builds.variables.OfContexts, beside environment"),
    Column("registries", Text, comment="null: none; else JSON: list of builds.registries.Registry"),
    Column("protected", Text, comment="null: default_ref alone; else JSON: list of patterns of builds.protection"),
    Column("runs_on", Text, comment="null: any builder; else JSON: storage.rows.RunsOn, those that it is bound to"),
    Column("approval", Integer, nullable=False, server_default="0", comment="by how many people a release is approved"),
    Column(
        "environments",
        Text,
        comment="null: none; else JSON: list of builds.environments.Environment, beside production and previews",
    ),
    Column(
        "caches",
        Integer,
        nullable=False,
        server_default="0",
        comment="how many times what its builds keep was cleared: they use nothing that was kept before",
    ),
    Column("retention", Text, comment="null: as the apiserver's; else JSON: builds.retention.Own"),
    Column("queue", Text, comment="null: no rules; else JSON: builds.priorities.QueueRules"),
    sqlite_autoincrement=True,
)
Index(
    "uq_projects_live_name",
    projects.c.name,
    unique=True,
    sqlite_where=text("deleted IS NULL"),
    postgresql_where=text("deleted IS NULL"),
)

secrets = Table(
    "secrets",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("name", Text, primary_key=True, comment="one of those that the targets have"),
    Column("sealed", LargeBinary, nullable=False, comment="encrypted by secrets.SecretBox, whose key isn't here"),
    Column("bound_to", Text, comment="projects.binding_of what it was set for: it is given out for nothing else"),
    Column("updated", BigInteger, nullable=False),
)

repository_access = Table(
    "repository_access",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("host", Text, nullable=False, comment="builds.names.host of the repository: it is given out for no other"),
    Column("deploy_key", LargeBinary, comment="the private half, encrypted by secrets.SecretBox; null: none"),
    Column("public_key", Text, nullable=False, comment="the public half, in OpenSSH's form; empty: none"),
    Column("git_token", LargeBinary, comment="encrypted by secrets.SecretBox; null: none"),
    Column("known_hosts", Text, nullable=False, comment="JSON: list of lines, the host's keys; none: not pinned yet"),
    Column("updated", BigInteger, nullable=False),
)

build_secrets = Table(
    "build_secrets",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("name", Text, primary_key=True, comment="the variable of the steps that are given it"),
    Column("sealed", LargeBinary, nullable=False, comment="encrypted by secrets.SecretBox, whose key isn't here"),
    Column("characters", Integer, nullable=False, comment="of the value"),
    Column("steps", Text, nullable=False, comment="builds.secrets.Steps: which steps are given it"),
    Column("builds", Text, primary_key=True, comment="builds.secrets.Builds: which builds are given it"),
    Column("bound_to", Text, nullable=False, comment="the repository it was set for: it is given to no other's builds"),
    Column("updated", BigInteger, nullable=False),
)

builders = Table(
    "builders",
    metadata,
    Column("name", Text, primary_key=True, comment="of one that has, or had, a key of its own"),
    Column("pools", Text, nullable=False, comment="JSON: list of names; projects can be bound to one of them"),
    Column("shared", Boolean, nullable=False, comment="the shared key is good for it, until its own is used"),
    Column("created", BigInteger, nullable=False),
    Column("last_linked", BigInteger, comment="by a key of its own; null: never"),
    Column("drained", BigInteger, comment="since when it is offered nothing, by a person's word; null: it is"),
    Column("tools", Text, comment="JSON: list of builds.attempt.StoredTool, as it said last; null: it didn't yet"),
)

builder_keys = Table(
    "builder_keys",
    metadata,
    Column("id", Text, primary_key=True, comment="as the handshake of a link says it; not secret"),
    Column("builder", ForeignKey("builders.name"), nullable=False, index=True, comment="whose it is"),
    Column("role", Text, nullable=False, comment="that its holder must have on a link"),
    Column("sealed", LargeBinary, comment="the secret, encrypted by secrets.SecretBox; null: the key has ended"),
    Column("created", BigInteger, nullable=False),
    Column("last_used", BigInteger, comment="to the minute; null: never"),
    Column("revoked", BigInteger, comment="null: it is good"),
    Column("expires", BigInteger, comment="null: never"),
)

people = Table(
    "people",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", Text, nullable=False, unique=True, comment="as others read it; never given to another"),
    Column("email", Text, comment="verified: by an admin, or by who signs people in; null: not known"),
    Column("role", Text, nullable=False, comment="builds.roles.PlatformRole, as an admin has said"),
    Column("group_role", Text, comment="likewise, by the groups of their last sign-in; null: these say nothing"),
    Column("created", BigInteger, nullable=False),
    Column("joined", BigInteger, comment="when they signed in first; null: never yet"),
    Column("disabled", BigInteger, comment="null: active; else since when they may nothing"),
    sqlite_autoincrement=True,
)
Index("uq_people_email", people.c.email, unique=True)

invitations = Table(
    "invitations",
    metadata,
    Column("person_id", ForeignKey("people.id"), primary_key=True, comment="whose first sign-in it is good for"),
    Column("secret_sha256", Text, nullable=False, unique=True, comment="hexadecimal; the code itself is nowhere"),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
)

identities = Table(
    "identities",
    metadata,
    Column("issuer", Text, primary_key=True, comment="of OpenID Connect"),
    Column("subject", Text, primary_key=True, comment="who it is there, for ever"),
    Column("person_id", ForeignKey("people.id"), nullable=False, index=True),
    Column("created", BigInteger, nullable=False),
)

members = Table(
    "members",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("person_id", ForeignKey("people.id"), primary_key=True, index=True),
    Column("source", Text, primary_key=True, comment='"added" by name; "groups": by those of their last sign-in'),
    Column("role", Text, nullable=False, comment="builds.roles.Role"),
    Column("created", BigInteger, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", Text, nullable=False, comment="whose or what for; shown as who asked for a build"),
    Column("secret_sha256", Text, nullable=False, unique=True, comment="hexadecimal; the secret itself is nowhere"),
    Column("scopes", Text, nullable=False, comment="JSON: list of read, build, admin"),
    Column("all_projects", Boolean, nullable=False, comment="else those in token_projects"),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, comment="null: never"),
    Column("revoked", BigInteger, comment="null: it is good"),
    Column("last_used", BigInteger, comment="to the minute"),
    Column(
        "parent",
        ForeignKey("tokens.id"),
        index=True,
        comment="of a browser's session: the token it stands on",
    ),
    Column("service", Boolean, nullable=False, server_default=false(), comment="a program's, no person's"),
    Column("address", Text, comment="of a browser's session: from where it began"),
    Column("agent", Text, comment="of a browser's session: what the browser calls itself"),
    Column("person", BigInteger, index=True, comment="whose it is; null: no person's"),
    Column("session", Boolean, nullable=False, server_default=false(), comment="a browser's"),
    sqlite_autoincrement=True,
)
Index(
    "uq_tokens_name",
    tokens.c.name,
    unique=True,
    sqlite_where=text("revoked IS NULL AND NOT session"),
    postgresql_where=text("revoked IS NULL AND NOT session"),
)

token_projects = Table(
    "token_projects",
    metadata,
    Column("token_id", ForeignKey("tokens.id", ondelete="CASCADE"), primary_key=True),
    Column("project", Text, primary_key=True, index=True, comment="by name: a project may come after its token"),
)

preview_passwords = Table(
    "preview_passwords",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True, autoincrement=False),
    Column("hash", Text, nullable=False, comment="as storage.password_hashes writes it"),
    Column("changed", BigInteger, nullable=False, comment="since when it holds"),
)

builds = Table(
    "builds",
    metadata,
    Column("id", _Id, primary_key=True, comment="never given twice"),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("ref", Text, nullable=False),
    Column("publish", Boolean, nullable=False, comment="false: only build, whatever the project publishes"),
    Column("live", Boolean, nullable=False, server_default=false(), comment="asked to go live though of another ref"),
    Column("bump", Text, comment="how versions are raised: builds.versions.BUMP; null: they aren't"),
    Column("parameters", Text, nullable=False, comment="JSON: variable -> value, for the steps"),
    Column("requested_by", Text, nullable=False, comment="the token's name"),
    Column("created", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False, comment="the newest attempt's number, from 1"),
    Column("state", Text, nullable=False, comment="the newest attempt's, repeated here so that listings have an index"),
    Column("origin", Text, comment="JSON: builds.origin.Origin; null: a person asked"),
    Column("lane", Text, comment="full name of the ref whose builds replace one another; null: a person asked"),
    Column("in_turn", Boolean, nullable=False, server_default=false(), comment="waits for those before it in its lane"),
    Column("pinned", BigInteger, comment="since when a person wants all of it kept; null: nobody does"),
    Column("has_log", Boolean, nullable=False, server_default=true(), comment="it may have one, as far as is known"),
    Column("has_archive", Boolean, nullable=False, server_default=true(), comment="likewise, in artifacts"),
    Column("lasting", Boolean, nullable=False, server_default=false(), comment="it is known to have to stay for ever"),
    Column("priority", Integer, nullable=False, server_default="0", comment="as in builds.priorities.LEVELS"),
    Column("due", BigInteger, nullable=False, server_default="0", comment="when it was queued, moved by its priority"),
    Index(None, "project_id", "id"),
    Index(None, "state", "id"),
    Index(None, "project_id", "state", "id"),
    Index(None, "project_id", "lane", "id"),
    sqlite_autoincrement=True,
)

#: Of a build that hasn't ended. Queries that are to use the index of these say it in the same words.
GOES_ON = (
    "state IN ('accepted', 'delivering', 'disconnected', 'offered', 'publishing', 'queued', 'running', "
    "'waiting_approval')"
)

# What is removed one day is found by these, however much is kept. (The column of the condition is in them too: SQLite
# prefers an index in which more of a query's terms are.)
for _name, _columns, _condition in (
    ("ix_builds_with_log", (builds.c.project_id, builds.c.has_log, builds.c.id), "has_log = true"),
    (
        "ix_builds_with_archive",
        (builds.c.project_id, builds.c.publish, builds.c.has_archive, builds.c.id),
        "has_archive = true",
    ),
    ("ix_builds_not_lasting", (builds.c.project_id, builds.c.lasting, builds.c.id), "lasting = false"),
    ("ix_builds_succeeded", (builds.c.project_id, builds.c.ref, builds.c.id), "state = 'succeeded'"),
    # The queue, and what goes on of a lane, are found by these however many builds have ended.
    ("ix_builds_queue", (builds.c.project_id, builds.c.due, builds.c.id, builds.c.state), "state = 'queued'"),
    ("ix_builds_lane", (builds.c.project_id, builds.c.lane, builds.c.id), GOES_ON),
):
    Index(_name, *_columns, sqlite_where=text(_condition), postgresql_where=text(_condition))

hooks = Table(
    "hooks",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True, autoincrement=False),
    Column("secret", LargeBinary, comment="sealed by secrets.SecretBox; null: it takes no messages"),
    Column("changed", BigInteger, comment="when the secret was made; null: there is none"),
    Column("settings", Text, nullable=False, comment="JSON: builds.hooks.settings.HookSettings"),
)

hook_deliveries = Table(
    "hook_deliveries",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("delivery", Text, nullable=False, comment="the kind of the host, and the id that it gave its message"),
    Column("event", Text, nullable=False, comment="JSON: builds.hooks.events.HookEvent, without changed paths"),
    Column("lane", Text, nullable=False, comment="the ref that it is about; empty: none"),
    Column("before", Text, nullable=False, comment="where that was before; empty: not known"),
    Column("number", BigInteger, nullable=False, comment="of the pull request; 0: none"),
    Column("received", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False, comment="built, ignored, waits or gone"),
    Column("reason", Text, nullable=False, comment="for people; may be empty"),
    Column("build_id", ForeignKey("builds.id"), comment="that it has made, or that there was for it; null: none"),
    Column("decided_by", Text, comment="who allowed it, or had it done again; null: nobody"),
    Column("decided", BigInteger, comment="when"),
    Index("uq_hook_deliveries_delivery", "project_id", "delivery", unique=True),
    Index(None, "project_id", "id"),
    Index(None, "project_id", "lane", "id"),
    Index(None, "build_id"),
    sqlite_autoincrement=True,
)

hook_refs = Table(
    "hook_refs",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True, autoincrement=False),
    Column("lane", Text, primary_key=True, comment="the full name of a ref at the host"),
    Column("commit_id", Text, nullable=False, comment="where it was, by the newest message; empty: not known"),
    Column("gone", Boolean, nullable=False, comment="it was deleted"),
    Column("build_id", ForeignKey("builds.id"), index=True, comment="of that commit; null: none"),
    Column("updated", BigInteger, nullable=False),
)

polls = Table(
    "polls",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True, autoincrement=False),
    Column("every", Integer, nullable=False, comment="minutes between two looks at the repository"),
    Column("due", BigInteger, nullable=False, comment="when it is looked at next"),
    Column("since", BigInteger, nullable=False, comment="when it was turned on"),
    Column("repository", Text, nullable=False, comment="whose refs poll_refs has; empty: there was no look yet"),
    Column("scope", Text, nullable=False, comment="JSON: storage.rows.PollScope, of the last look"),
    Column("digest", Text, nullable=False, comment="of what it has seen, if all that follows is done; else empty"),
    Column("refs", Integer, nullable=False, comment="how many it has seen"),
    Column("looked", BigInteger, comment="when the repository was seen last; null: never yet"),
    Column("tried", BigInteger, comment="when it was tried last; null: never yet"),
    Column("failures", Integer, nullable=False, comment="how many looks in a row have failed"),
    Column("reason", Text, nullable=False, comment="why the last one has, or has to wait; empty: it hasn't"),
    Column("builder", Text, nullable=False, comment="which one has looked last; empty: none"),
    Index("ix_polls_due", "due"),
)

poll_refs = Table(
    "poll_refs",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True, comment="the full name of a branch or tag"),
    Column("commit_id", Text, nullable=False, comment="where it was when it was looked at, and all followed from it"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("build_id", ForeignKey("builds.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False, comment="from 1"),
    Column("state", Text, nullable=False, comment="builds.states.AttemptState"),
    Column("reason", Text, nullable=False, comment="for people: why it is so; may be empty"),
    Column("requested_by", Text, nullable=False, comment="the token's name"),
    Column("lease", Text, nullable=False, comment="names the grant to a builder; empty: none"),
    Column("builder", Text, nullable=False, comment="the builder's name; empty: none"),
    Column("cancel_reason", Text, nullable=False, comment="not empty: it is to be cancelled, for this reason"),
    Column("created", BigInteger, nullable=False),
    Column("offered", BigInteger),
    Column("started", BigInteger, comment="by the builder's clock"),
    Column("ended", BigInteger, comment="by the builder's clock, if a builder said so"),
    Column("commit_id", Text, nullable=False, comment="full; empty: not known yet"),
    Column("resolved", BigInteger, comment="when the ref led to the commit, by our clock; null: no commit yet"),
    Column("live", Boolean, nullable=False, server_default=false(), comment="may go live though of another ref"),
    Column("may_publish", Boolean, nullable=False, server_default=true(), comment="who asked has the scope publish"),
    Column("preview", Text, comment="since its offer: why it publishes nothing for users; empty: it may; null: old"),
    Column("environment", Text, comment="since its offer: of which environment it is; null: not known"),
    Column("protected", Text, comment="the protected ref that has its commit; empty: none; null: not known"),
    Column("inputs", Text, comment="since its offer: builds.inputs: its variables and secrets; null: not known"),
    Column("asker", BigInteger, comment="the number of the token with which it was asked for; null: not known"),
    Column("asker_person", BigInteger, comment="the number of the person who asked for it; null: none, or not known"),
    Column("decision", Text, comment="JSON: storage.rows.Decision, if it had to be approved; null: none"),
    Column("subject", Text, nullable=False, comment="the commit message's first line"),
    Column("author", Text, nullable=False, comment="the commit's"),
    Column("author_email", Text, comment="the commit's, in small letters; null: not known"),
    Column("next_record", BigInteger, nullable=False, comment="the number after the last record in log_chunks"),
    Column("log_bytes", BigInteger, nullable=False, comment="the sum of log_chunks.size"),
    Column("lines", BigInteger, comment="from the end on: how many records the log has"),
    Column("sha256", Text, nullable=False, comment="from the end on: builds.logs.LogDigest of the log; empty: unknown"),
    Column("complete", Boolean, nullable=False, comment="the log was verified against lines and sha256"),
    Column("published", Text, nullable=False, comment="JSON: list of builds.attempt.Published"),
    Column("repository", Text, comment="the address that it was offered with; null: not known"),
    Column("recognised", Text, comment="JSON: list of builds.recognition.recognised.Finding; null: not known"),
    Column("used", Text, comment="from the end on: JSON: builds.attempt.Used; null: not known"),
    Column("egress", Text, comment="from the end on: JSON: builds.egress.Egress; null: not known"),
    Column("isolation", Text, comment="since its acceptance: builds.isolation.Kind; null: not known"),
    Column("linted", Text, comment="from the end on: JSON: builds.lint.Linted; null: not known"),
    Column("tools", Text, comment="from the end on: JSON: list of builds.attempt.Tool; null: not known"),
    Column("log_removed", BigInteger, comment="since when its log isn't kept any more; null: it is"),
    Column("log_rule", Text, comment="by which rule of retention; null: by none"),
    Index(None, "state", "created", "build_id"),
    Index(None, "builder", "state"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("build_id", BigInteger, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("target", Text, primary_key=True, comment="the name of one to which it was offered to publish"),
    Column("lease", Text, nullable=False, comment="the attempt's, when it was offered"),
    Column("settings", Text, nullable=False, comment="JSON: what its project said of the target then"),
    Column("bound_to", Text, comment="projects.binding_of that; null: not known"),
    Column("package", Text, comment="JSON: builds.attempt.Package; null: no permit yet"),
    Column("given", BigInteger, comment="when it got its permit"),
    ForeignKeyConstraint(["build_id", "number"], ["attempts.build_id", "attempts.number"]),
)

publications = Table(
    "publications",
    metadata,
    Column("build_id", BigInteger, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("target", Text, primary_key=True, comment="the name of the one to which it is published"),
    Column("position", Integer, primary_key=True, autoincrement=False, comment="in the attempt's permit, from 0"),
    Column("name", Text, nullable=False, comment="the package's"),
    Column("version", Text, nullable=False),
    Column("integrity", Text, nullable=False, comment='of its file: "sha512-…", as npm has it'),
    Column("tag", Text, nullable=False, comment="the dist-tag; empty: the target's default"),
    Column(
        "settled",
        Boolean,
        nullable=False,
        server_default=false(),
        comment="this version's, if it is there already, counts as published whatever is in it",
    ),
    Column("size", BigInteger, nullable=False, comment="bytes of its file; 0: not announced yet"),
    Column("sha256", Text, nullable=False, comment="of its file, its name in the artifact store; empty: none there"),
    Column("state", Text, nullable=False, comment="builds.states.PublicationState"),
    Column("reason", Text, nullable=False, comment="for people: why it is so; may be empty"),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False, comment="when it came into its state"),
    Column("registry", Text, comment="its address; null: not known yet"),
    Column("mode", Text, comment="direct or staged; null: not known yet"),
    Column("stage", Text, comment="the registry's id of its stage; null: none"),
    Column("set_tag", Text, comment="the tag under which it goes up; null: its own"),
    Column("tag_before", Text, comment="the version that its tag led to before"),
    Column("status", Text, comment="published or already-published, at its end"),
    Column("notice", Text, comment="for people: what isn't as it should be"),
    Column("approved_by", Text, comment="who approved it; null: nobody"),
    Column("approved", BigInteger, comment="when; null: not"),
    ForeignKeyConstraint(["build_id", "number"], ["attempts.build_id", "attempts.number"]),
    Index(None, "name", "version"),
    Index(None, "sha256"),
)

publication_steps = Table(
    "publication_steps",
    metadata,
    Column("build_id", BigInteger, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("target", Text, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False, comment="of the attempt's for the target, from 0"),
    Column("position", Integer, nullable=False, comment="the package's"),
    Column("step", Text, nullable=False, comment="publish.record.Step"),
    Column(
        "detail", Text, nullable=False, comment="what it is done with: a tag, a version, a stage's id; may be empty"
    ),
    Column("began", BigInteger, nullable=False, comment="written before it is done"),
    Column(
        "ended", BigInteger, nullable=False, comment="written after it; 0: it is under way, or was when a crash came"
    ),
    Column("outcome", Text, nullable=False, comment="publish.record.Outcome; empty: not known"),
    Column("reason", Text, nullable=False, comment="for people; may be empty"),
    ForeignKeyConstraint(["build_id", "number"], ["attempts.build_id", "attempts.number"]),
)

package_locks = Table(
    "package_locks",
    metadata,
    Column("registry", Text, primary_key=True, comment="its address"),
    Column("name", Text, primary_key=True, comment="the package's"),
    Column("holder", Text, nullable=False, comment="the attempt, or the request, that changes it now"),
    Column("taken", BigInteger, nullable=False),
    Index(None, "holder"),
)

package_requests = Table(
    "package_requests",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("target", Text, nullable=False, comment="the name of the one in whose registry it is done"),
    Column("package", Text, nullable=False),
    Column("kind", Text, nullable=False, comment="promote, rollback, deprecate or undeprecate"),
    Column("tag", Text, nullable=False, comment="that is moved; empty: none"),
    Column("version", Text, nullable=False, comment="empty: the one to which the tag led before, not known yet"),
    Column("message", Text, nullable=False, comment="of a deprecation"),
    Column("state", Text, nullable=False, comment="builds.states.RequestState"),
    Column("reason", Text, nullable=False, comment="for people: why it is so; may be empty"),
    Column("registry", Text, nullable=False, comment="its address; empty: not known yet"),
    Column("before", Text, nullable=False, comment="the version to which the tag led, or the message"),
    Column("requested_by", Text, nullable=False, comment="the token's name, or the person's"),
    Column("created", BigInteger, nullable=False),
    Column("began", BigInteger, comment="written before it is done; null: not yet"),
    Column("ended", BigInteger, comment="written after it; null: it goes on"),
    Index(None, "project_id", "package", "id"),
    Index(None, "state"),
    sqlite_autoincrement=True,
)

moved_tags = Table(
    "moved_tags",
    metadata,
    Column("registry", Text, primary_key=True, comment="its address"),
    Column("package", Text, primary_key=True),
    Column("tag", Text, primary_key=True),
    Column("version", Text, nullable=False, comment="to which it leads; empty: it was removed"),
    Column("before", Text, nullable=False, comment="to which it led, by the ledger"),
    Column("noticed", BigInteger, nullable=False),
)

receivers = Table(
    "receivers",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("name", Text, nullable=False, comment="as people call it; unique in its project"),
    Column("kind", Text, nullable=False, comment="one of outgoing.kinds"),
    Column("events", Text, nullable=False, comment="JSON: list of outgoing.told.Event that it wants"),
    Column("shown", Text, nullable=False, comment="its address as people are shown it; empty: the repository's host"),
    Column(
        "sealed",
        LargeBinary,
        nullable=False,
        comment="JSON: storage.receivers.Secret, encrypted by secrets.SecretBox, whose key isn't here",
    ),
    Column("bound_to", Text, comment="the repository that it was set for; null: it is the host of none"),
    Column("rests", BigInteger, comment="until when nothing is told to it; null: it was never away or busy"),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Index("uq_receivers_project_id_name", "project_id", "name", unique=True),
    sqlite_autoincrement=True,
)

schedules = Table(
    "schedules",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("name", Text, nullable=False, comment="as people call it; unique in its project"),
    Column("cron", Text, nullable=False, comment="an expression: builds.cron"),
    Column("zone", Text, nullable=False, comment="the name of a time zone"),
    Column("ref", Text, nullable=False, comment="what is built; empty: the project's own ref"),
    Column("publish", Boolean, nullable=False, comment="its builds publish what a push would"),
    Column("due", BigInteger, comment="when it is due next; null: its time zone isn't known any more"),
    Column("ran", BigInteger, comment="when it was due last, and was looked at; null: never yet"),
    Column("build_id", ForeignKey("builds.id"), comment="its last; null: none yet"),
    Column("reason", Text, nullable=False, comment="why nothing was built the last time; empty: it was"),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Index("uq_schedules_project_id_name", "project_id", "name", unique=True),
    Index("ix_schedules_due", "due"),
    sqlite_autoincrement=True,
)

domains = Table(
    "domains",
    metadata,
    Column("id", _Id, primary_key=True, comment="in the order in which they were added"),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("name", Text, nullable=False, comment="a host name, as builds.domains has them; unique in all projects"),
    Column("main", Boolean, nullable=False, comment="it is the one under which people know the site"),
    Column("redirect", Boolean, nullable=False, comment="it leads to the main one, and serves nothing itself"),
    Column("created", BigInteger, nullable=False),
    Index("uq_domains_name", "name", unique=True),
    Index("ix_domains_project_id", "project_id"),
    sqlite_autoincrement=True,
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", _Id, primary_key=True, comment="in the order in which it happened"),
    Column("receiver_id", ForeignKey("receivers.id", ondelete="CASCADE"), nullable=False),
    Column("subject", Text, nullable=False, comment="what of one subject is told is told in its order"),
    Column("part", Text, nullable=False, comment="outgoing.told.Part"),
    Column("phase", Text, nullable=False, comment="builds.states.Phase"),
    Column("build_id", BigInteger, nullable=False),
    Column("number", Integer, nullable=False, comment="the attempt's"),
    Column("told", Text, nullable=False, comment="JSON: outgoing.told.Told, as it was then"),
    Column("state", Text, nullable=False, comment="builds.states.TellingState"),
    Column("reason", Text, nullable=False, comment="for people: why it wasn't told at the last try; may be empty"),
    Column("tries", Integer, nullable=False, comment="how often it was begun"),
    Column("due", BigInteger, nullable=False, comment="when it is tried next"),
    Column("leased", BigInteger, comment="since when it is being told; null: it isn't"),
    Column("noticed", BigInteger, comment="when it was first seen by what tells it: its time runs from there"),
    Column("ended", BigInteger, comment="when it was told, or given up; null: not yet"),
    Index(None, "receiver_id", "subject", "id"),
    Index(None, "state", "due"),
    sqlite_autoincrement=True,
)

steps = Table(
    "steps",
    metadata,
    Column("build_id", BigInteger, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("step", Integer, primary_key=True, autoincrement=False, comment="from 0, in order"),
    Column("name", Text, nullable=False),
    Column("command", Text, nullable=False, comment="as a person would type it; may be empty"),
    Column("outcome", Text, nullable=False, comment="running, succeeded, failed, cancelled or timed_out"),
    Column("started", BigInteger, nullable=False),
    Column("ended", BigInteger, nullable=False, comment="0 while it is running"),
    Column("exit_code", BigInteger, comment="null: it never ran, or runs"),
    ForeignKeyConstraint(["build_id", "number"], ["attempts.build_id", "attempts.number"]),
)

said = Table(
    "said",
    metadata,
    Column("build_id", BigInteger, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("progress", Float, comment="of the step that runs, 0 to 1; null: none"),
    Column("label", Text, nullable=False, comment="the progress's"),
    Column("errors", BigInteger, nullable=False, comment="how many annotations of this level are in log_chunks"),
    Column("warnings", BigInteger, nullable=False, comment="likewise"),
    Column("notices", BigInteger, nullable=False, comment="likewise"),
    Column("summary", Text, nullable=False, comment="the last one, Markdown; may be empty"),
    ForeignKeyConstraint(["build_id", "number"], ["attempts.build_id", "attempts.number"]),
)

log_chunks = Table(
    "log_chunks",
    metadata,
    Column("build_id", BigInteger, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("first_record", BigInteger, primary_key=True, autoincrement=False),
    Column("records", Integer, nullable=False, comment="how many, without holes"),
    Column("size", Integer, nullable=False, comment="bytes of data"),
    Column("data", LargeBinary, nullable=False, comment="batches (builds.logs.Lines) as JSON, each ended by a newline"),
    ForeignKeyConstraint(["build_id", "number"], ["attempts.build_id", "attempts.number"]),
)

sealed_chunks = Table(
    "sealed_chunks",
    metadata,
    Column("build_id", BigInteger, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("first_record", BigInteger, primary_key=True, autoincrement=False),
    Column("records", BigInteger, nullable=False, comment="how many, without holes"),
    Column("plain", BigInteger, nullable=False, comment="bytes of the messages that are sealed in it"),
    Column("began", BigInteger, nullable=False, comment="when the first of them was captured; 0: of a gap"),
    Column("ended", BigInteger, nullable=False, comment="when the last of them was; 0: of a gap"),
    Column(
        "damaged", Boolean, nullable=False, server_default=false(), comment="it was found not to be what was sealed"
    ),
    Column("size", Integer, nullable=False, comment="bytes of the chunk"),
    Column("place", BigInteger, comment="which chunk it is in storage.log_archive.Kind.of(place); null: in data"),
    Column("grams", LargeBinary, nullable=False, comment="sealed.grams.row_of its text"),
    # Last, since SQLite reads a row up to the columns that are wanted.
    Column("data", LargeBinary, comment="sealed.chunk; null: in an archive"),
    ForeignKeyConstraint(["build_id", "number"], ["attempts.build_id", "attempts.number"]),
)

log_archive = Table(
    "log_archive",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False, comment="storage.log_archive.Kind"),
    Column("mark", Text, nullable=False, comment="which archive of this kind has the chunks: storage.log_archive"),
)

outlines = Table(
    "outlines",
    metadata,
    Column("build_id", BigInteger, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("data", Text, nullable=False, comment="JSON: sealed.outline.Outline"),
    ForeignKeyConstraint(["build_id", "number"], ["attempts.build_id", "attempts.number"]),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("token_id", ForeignKey("tokens.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Text, primary_key=True, comment="the Idempotency-Key"),
    Column("body_sha256", Text, nullable=False),
    Column("build_id", ForeignKey("builds.id"), nullable=False, index=True, comment="what the first request made"),
    Column("created", BigInteger, nullable=False, index=True),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("build_id", BigInteger, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False, comment="bytes of the archive"),
    Column("sha256", Text, nullable=False, comment="of the archive; its name in the artifact store"),
    Column("complete", Boolean, nullable=False, comment="all of it is there, and verified"),
    Column("created", BigInteger, nullable=False),
    ForeignKeyConstraint(["build_id", "number"], ["attempts.build_id", "attempts.number"]),
    Index(None, "sha256"),
)

removed_files = Table(
    "removed_files",
    metadata,
    Column("sha256", Text, primary_key=True, comment="of a file in the artifact store that no row may need any more"),
)

releases = Table(
    "releases",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("build_id", BigInteger, nullable=False),
    Column("number", Integer, nullable=False, comment="the attempt's"),
    Column("target", Text, nullable=False, server_default="static", comment="the name of the one that keeps it"),
    Column("sha256", Text, nullable=False, comment="of its archive"),
    Column("files", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False, comment="bytes, unpacked"),
    Column("commit_id", Text, nullable=False),
    Column("state", Text, nullable=False, comment="builds.states.ReleaseState"),
    Column("created", BigInteger, nullable=False),
    Column("activated", BigInteger, comment="when it last became live"),
    ForeignKeyConstraint(["build_id", "number"], ["attempts.build_id", "attempts.number"]),
    Index("uq_releases_attempt", "build_id", "number", "target", unique=True),
    Index(None, "project_id", "id"),
    sqlite_autoincrement=True,
)
Index(
    "uq_releases_live",
    releases.c.project_id,
    releases.c.target,
    unique=True,
    sqlite_where=text("state = 'live'"),
    postgresql_where=text("state = 'live'"),
)

previews = Table(
    "previews",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("label", Text, primary_key=True, comment="builds.labels: of a ref"),
    Column("ref", Text, nullable=False, comment="its full name"),
    Column(
        "release_id",
        ForeignKey("releases.id"),
        nullable=False,
        index=True,
        comment="of the ref's newest build that succeeded",
    ),
    Column("updated", BigInteger, nullable=False, comment="since when it is of that release"),
)

statements = Table(
    "statements",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("build_id", BigInteger, nullable=False),
    Column("number", Integer, nullable=False, comment="the attempt's"),
    Column("kind", Text, nullable=False, comment="release or package"),
    Column("name", Text, nullable=False, comment="of the statement's subject"),
    Column("envelope", Text, nullable=False, comment="JSON: builds.provenance.Envelope"),
    Column("created", BigInteger, nullable=False),
    ForeignKeyConstraint(["build_id", "number"], ["attempts.build_id", "attempts.number"]),
    Index(None, "build_id", "number"),
    Index(None, "name"),
    sqlite_autoincrement=True,
)

owner = Table(
    "owner",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False, comment="1: there is one row at most"),
    Column("epoch", BigInteger, nullable=False, comment="how many apiservers have had this database; see guard"),
    Column("host", Text, nullable=False, comment="where the newest of them runs"),
    Column("pid", BigInteger, nullable=False, comment="its process there"),
    Column("started", BigInteger, nullable=False),
)

apiservers = Table(
    "apiservers",
    metadata,
    Column("name", Text, primary_key=True, comment="as its configuration or its data folder has it"),
    Column("incarnation", BigInteger, nullable=False, comment="how many have had this name"),
    Column("folder", Text, nullable=False, comment="what its data folder is told by"),
    Column("files", Text, nullable=False, comment="what its folder of artifacts and releases is told by"),
    Column("url", Text, nullable=False, comment="where its API is"),
    Column("host", Text, nullable=False, comment="where it runs"),
    Column("pid", BigInteger, nullable=False, comment="its process there"),
    Column("started", BigInteger, nullable=False, comment="by the database's clock, as all times here"),
    Column("seen", BigInteger, nullable=False, comment="when it last said that it is there"),
    Column("steady", BigInteger, nullable=False, comment="since when it has said so without a pause"),
    Column("ended", BigInteger, comment="null: it is alive; else when it ended or was given up"),
    Column("link", Text, comment="its name for its builders (link.name); null: an older version's"),
)

builder_links = Table(
    "builder_links",
    metadata,
    Column("builder", Text, primary_key=True),
    Column("peer", Text, nullable=False, comment="which process of the builder is linked, or was last"),
    Column("apiserver", Text, nullable=False, comment="which answers for the builder"),
    Column("incarnation", BigInteger, nullable=False, comment="of the apiserver"),
    Column("epoch", BigInteger, nullable=False, comment="how often it was taken; each link has its own"),
    Column("linked", Boolean, nullable=False, comment="false: the builder is away, and waited for"),
    Column("since", BigInteger, nullable=False, comment="by the database's clock"),
)

duties = Table(
    "duties",
    metadata,
    Column("name", Text, primary_key=True, comment="work that one apiserver does for all"),
    Column("apiserver", Text, nullable=False, comment="which does it"),
    Column("incarnation", BigInteger, nullable=False, comment="of the apiserver"),
    Column("epoch", BigInteger, nullable=False, comment="how often it was taken"),
    Column("since", BigInteger, nullable=False, comment="by the database's clock"),
)

changes = Table(
    "changes",
    metadata,
    Column("number", _Id, primary_key=True, comment="in the order of the commits"),
    Column("apiserver", Text, nullable=False, comment="which has made it; the others read it here"),
    Column("what", Text, nullable=False, comment="storage.changes.Change, or empty: anything"),
    Column("time", BigInteger, nullable=False, comment="by the database's clock"),
    sqlite_autoincrement=True,
)

audit = Table(
    "audit",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("time", BigInteger, nullable=False, index=True),
    Column("who", Text, nullable=False, comment="the token's name, or the node's"),
    Column("action", Text, nullable=False, comment='e.g. "project.create"'),
    Column("subject", Text, nullable=False, comment="what it was done to"),
    Column("detail", Text, nullable=False, comment="JSON: name -> value; never a secret"),
    Column("address", Text, comment="from where: an IP address, or unix; null: not by HTTP, or not known"),
    Column("kind", Text, comment="rows.ActorKind: what who names; null: not known"),
    Column("token", BigInteger, comment="the number of the token; null: none, or not known"),
    Column("request", Text, comment="the id of the HTTP request; null: none, or not known"),
    Column("project", Text, comment="the name of the project that it is about; null: none"),
    Column("person", BigInteger, comment="the number of the person whose token it was; null: none, or not known"),
    Column("person_name", Text, comment="the person's name then; null likewise"),
    Index(None, "project", "id"),
    sqlite_autoincrement=True,
)

audit_kept = Table(
    "audit_kept",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False, comment="1: there is one row at most"),
    Column("since", BigInteger, nullable=False, comment="lines from before may be deleted, since they are too old"),
)

#: What has been written into the audit stays as it is: the database refuses everything else, but that lines are deleted
#: which are older than `audit_kept` says. (SQLite's REPLACE deletes without asking a trigger that is for deletions.)
_ONLY_APPENDED = {
    "sqlite": [
        f"CREATE TRIGGER audit_{name} BEFORE {event} ON audit {when}"
        "BEGIN SELECT RAISE(ABORT, 'the audit is only appended to'); END"
        for name, event, when in (
            ("no_update", "UPDATE", ""),
            ("no_delete", "DELETE", "WHEN OLD.time >= COALESCE((SELECT since FROM audit_kept WHERE id = 1), 0) "),
            ("no_replace", "INSERT", "WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id) "),
        )
    ],
    "postgresql": [
        "CREATE FUNCTION audit_is_only_appended_to() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF TG_OP = 'DELETE' AND TG_LEVEL = 'ROW' THEN "
        "IF OLD.time < COALESCE((SELECT since FROM audit_kept WHERE id = 1), 0) THEN RETURN OLD; END IF; END IF; "
        "RAISE EXCEPTION 'the audit is only appended to'; END $$",
        "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON audit "
        "FOR EACH ROW EXECUTE FUNCTION audit_is_only_appended_to()",
        "CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_is_only_appended_to()",
    ],
}
for _dialect, _statements in _ONLY_APPENDED.items():
    for _statement in _statements:
        event.listen(audit, "after_create", DDL(_statement).execute_if(dialect=_dialect))
