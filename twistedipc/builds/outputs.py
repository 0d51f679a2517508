"""
What is known of the folders that builds write: where a site is, and what only looks like one. Bottom layer,
data alone. `publish.output` chooses by it.
"""

from __future__ import annotations

from typing import NamedTuple

#: The file at the top of a folder that makes it a site.
INDEX = "index.html"

#: The page at the top of a site for addresses to which no file belongs: with status 404; and with 200, by the custom of
#: hosts of single-page applications, where it goes before the index.
NOT_FOUND = "404.html"
FALLBACK = "200.html"

#: Where the output is looked for, in this order, if the project doesn't set it. ``public`` is last: in most projects it
#: is a source and not a result.
OUTPUTS = (
    "dist",
    "build",
    "out",
    "_site",  # Jekyll, Eleventy
    ".output/public",  # Nuxt, Nitro
    "storybook-static",
    ".vitepress/dist",
    "docs/.vitepress/dist",
    ".vuepress/dist",
    "docs/.vuepress/dist",
    "public",  # Gatsby, Hugo, Hexo
)


class ServerOutput(NamedTuple):
    """A folder that is for a server of a framework's own, and how that framework makes a static site."""

    folder: str
    advice: str


SERVER_OUTPUTS = (
    ServerOutput(".next", 'for a static site set output: "export" in next.config'),
    ServerOutput(".svelte-kit", "for a static site use @sveltejs/adapter-static in svelte.config.js"),
    ServerOutput(".vercel/output", "for a static site use the framework's static output, not its adapter for Vercel"),
    ServerOutput(".netlify", "for a static site use the framework's static output, not its adapter for Netlify"),
    ServerOutput(".output/server", 'for a static site run "nuxt generate", or prerender its pages'),
    ServerOutput("dist/server", 'for a static site set output: "static" in astro.config, or prerender its pages'),
    ServerOutput("build/server", "for a static site set ssr: false, and prerender its pages, in react-router.config"),
)

#: Folders that a search for a site doesn't enter. Nor does it enter those that begin with a dot, but for the parts of
#: `OUTPUTS`: what frameworks keep there is for themselves.
NOT_SEARCHED = frozenset(
    {"node_modules", "bower_components", "coverage", "playwright-report", "test-results", "__pycache__", "venv"}
)

#: The parts of `OUTPUTS` that begin with a dot.
SEARCHED_DOTS = frozenset(part for folder in OUTPUTS for part in folder.split("/") if part.startswith("."))


class Generator(NamedTuple):
    """A program whose projects have no package.json: their files are its sources, and not yet a site."""

    file: str  # at the repository's top
    name: str
    example: str  # of `.twistedipc.toml`


GENERATORS = (
    Generator("Trunk.toml", "Trunk", 'steps = ["trunk build --release"]'),
    Generator("elm.json", "Elm", 'steps = ["npx -y elm make src/Main.elm --output=dist/main.js"]'),
    Generator("deno.json", "Deno", 'steps = ["deno task build"]'),
    Generator("deno.jsonc", "Deno", 'steps = ["deno task build"]'),
)
