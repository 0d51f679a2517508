"""
What other hosts call the things that the platform says to a build in ``TWISTEDIPC_*``, for frameworks and projects that
know those names. Bottom layer, pure.

Variables by which tools find out *where* they run are not among them: they would make static sites into servers.
``VERCEL``, ``NOW_BUILDER``, ``NETLIFY`` and ``CF_PAGES`` choose the adapter of SvelteKit's adapter-auto, the preset of
Nitro (Nuxt, SolidStart, Analog) and of many projects' own configurations; to Nitro ``VERCEL_ENV`` says the same.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from twistedipc.builds.environments import PREVIEW, PRODUCTION

#: fact -> the names that other hosts have for it
NAMES: dict[str, tuple[str, ...]] = {
    "commit": ("VERCEL_GIT_COMMIT_SHA", "COMMIT_REF", "CF_PAGES_COMMIT_SHA"),
    "branch": ("VERCEL_GIT_COMMIT_REF", "BRANCH", "HEAD", "CF_PAGES_BRANCH"),
    "url": ("URL", "DEPLOY_URL", "DEPLOY_PRIME_URL", "CF_PAGES_URL"),
    "host": ("VERCEL_URL", "VERCEL_PROJECT_PRODUCTION_URL"),
    "context": ("CONTEXT",),
    "environment": ("VERCEL_TARGET_ENV",),
}

#: Netlify's words for what kind of a build it is.
_CONTEXTS = {PRODUCTION: "production", PREVIEW: "deploy-preview"}
_OTHER_CONTEXT = "branch-deploy"


def variables(*, commit: str, ref: str, url: str, environment: str) -> dict[str, str]:
    """
    Return the variables for a build of this commit, to which ``ref`` led, of this environment, of the site at ``url``.
    """
    parts = urlsplit(url)
    facts = {
        "commit": commit,
        "branch": ref.removeprefix("refs/heads/").removeprefix("heads/"),
        "url": url.rstrip("/"),
        # Everybody puts https:// before it.
        "host": parts.netloc + parts.path.rstrip("/") if parts.scheme == "https" else "",
        "context": _CONTEXTS.get(environment, _OTHER_CONTEXT),
        "environment": environment,
    }
    return {name: facts[fact] for fact, names in NAMES.items() if facts[fact] for name in names}
