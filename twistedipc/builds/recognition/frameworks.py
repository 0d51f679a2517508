"""
The frameworks that are known, as data: how each is recognised, what builds it, where its site is then.

The order is that in which they are looked for, where a project has several and its build script doesn't say which one
it runs: what is made of another comes before it, tools beside the project come last.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """When a framework's build makes a server and no site, as its configuration says; regular expressions."""

    when: str = ""  # what says so; "": it does unless something says otherwise
    unless: str = ""  # what says that it makes a site, in the configuration or in the build script
    unless_files: tuple[str, ...] = ()  # files or folders whose presence says so
    certain: str = ""  # what makes it certain, beside ``when``
    doubtful: str = ""  # what makes it uncertain: the configuration is put together elsewhere
    without_config: bool = False  # whether it is certain where there is no configuration
    advice: str  # how it makes a site; after "…, so that the build makes no site: "


class Framework(msgspec.Struct, frozen=True, kw_only=True):
    """A framework, or another tool whose projects are recognised."""

    name: str
    title: str
    packages: tuple[str, ...] = ()  # it is used if the project depends on one of these
    along: tuple[str, ...] = ()  # … and on one of these, if there are any
    config: tuple[str, ...] = ()  # its configuration, by the names that it may have
    alone: bool = False  # the configuration says that it is used, without any package
    beside: tuple[str, ...] = ()  # … if one of these is there too
    runs: str = ""  # a regular expression for its command, where a script runs it
    command: str = ""  # builds, where no script does; "": nothing does then
    scripts: tuple[str, ...] = ()  # the names of scripts that build, beside "build"
    instead_of: str = ""  # a build script, all of it, that makes a server where ``command`` makes a site
    outputs: tuple[str, ...] = ("dist",)  # "{dir}" is the folder that the command names as ``dir`` in ``runs``
    option: str = ""  # a regular expression for the option of its command that says where
    key: str = ""  # … and for what says so in the configuration
    spa: bool = False  # its sites are single-page applications
    spa_when: str = ""  # what says in the configuration that they are
    server: Server | None = None
    needs: tuple[str, ...] = ()  # programs that don't come with its packages


def _files(*stems: str, endings: tuple[str, ...] = ("js", "mjs", "cjs", "ts", "mts", "cts")) -> tuple[str, ...]:
    return tuple(f"{stem}.{ending}" for stem in stems for ending in endings)


_OUT_DIR = r"--out-?[dD]ir[= ]+[\"']?([^\s\"']+)"
_VITE = _files("vite.config")
_VITE_KEY = r"\boutDir\s*:\s*[\"'`]([^\"'`$]+)"
_VITE_RUNS = r"\b(?:vite|vp)\s+build\b"

#: What puts a configuration together from somewhere else.
_ELSEWHERE = r"\.\.\.|\brequire\s*\(|\bimport\s+(?!type\b)|\bprocess\.env\b"

FRAMEWORKS = (
    Framework(
        name="next",
        title="Next.js",
        packages=("next",),
        config=_files("next.config"),
        runs=r"\bnext\s+(build|export)\b",
        command="next build",
        outputs=("out",),
        key=r"\bdistDir\s*:\s*[\"'`]([^\"'`$]+)",
        server=Server(
            unless=r"\boutput\s*:[^,}\n]{0,200}[\"'`]export[\"'`]|\bnext\s+export\b",
            doubtful=_ELSEWHERE,
            without_config=True,
            advice='set output: "export" in next.config',
        ),
    ),
    Framework(
        name="nuxt",
        title="Nuxt",
        packages=("nuxt", "nuxt3", "nuxt-edge", "nuxt-nightly"),
        config=_files("nuxt.config"),
        runs=r"\b(nuxt|nuxi)\s+(generate|build)\b",
        command="nuxt generate",
        scripts=("generate",),
        instead_of=r"\s*(nuxt|nuxi)\s+build\s*",
        outputs=(".output/public", "dist"),
        spa_when=r"\bssr\s*:\s*false\b",
    ),
    Framework(
        name="sveltekit",
        title="SvelteKit",
        packages=("@sveltejs/kit",),
        config=("svelte.config.js", "svelte.config.ts", "svelte.config.mjs", *_VITE),
        runs=_VITE_RUNS,
        command="vite build",
        outputs=("build",),
        key=r"\bpages\s*:\s*[\"'`]([^\"'`$]+)",
        spa_when=r"\bfallback\s*:\s*[\"'`](?!404)",
        server=Server(
            unless=r"adapter-static",
            certain=r"@sveltejs/adapter-(auto|node|vercel|netlify|cloudflare)\b",
            advice="use @sveltejs/adapter-static in svelte.config.js",
        ),
    ),
    Framework(
        name="react-router",
        title="React Router",
        packages=("@react-router/dev",),
        config=_files("react-router.config"),
        runs=r"\breact-router\s+build\b",
        command="react-router build",
        outputs=("build/client",),
        key=r"\bbuildDirectory\s*:\s*[\"'`]([^\"'`$]+)",
        spa_when=r"\bssr\s*:\s*false\b",
        server=Server(
            unless=r"\bssr\s*:\s*false\b|\bprerender\b",
            doubtful=r"\.\.\.|\brequire\s*\(|\bprocess\.env\b|\bpresets\b",
            without_config=True,
            advice="set ssr: false in react-router.config, or prerender its pages",
        ),
    ),
    Framework(
        name="remix",
        title="Remix",
        packages=("@remix-run/dev",),
        config=_files("vite.config", "remix.config"),
        runs=r"\bremix\s+(vite:)?build\b",
        command="remix vite:build",
        outputs=("build/client",),
        spa_when=r"\bssr\s*:\s*false\b",
        server=Server(
            unless=r"\bssr\s*:\s*false\b",
            doubtful=r"\.\.\.|\bprocess\.env\b",
            advice="set ssr: false for the Remix plugin in vite.config (its SPA mode)",
        ),
    ),
    Framework(
        name="astro",
        title="Astro",
        packages=("astro",),
        config=_files("astro.config"),
        runs=r"\bastro\s+build\b",
        command="astro build",
        outputs=("dist", "dist/client"),
        option=_OUT_DIR,
        key=_VITE_KEY,
        server=Server(
            when=r"\boutput\s*:\s*[\"'`](server|hybrid)[\"'`]",
            advice='set output: "static" in astro.config, or prerender its pages',
        ),
    ),
    Framework(
        name="solid-start",
        title="SolidStart",
        packages=("@solidjs/start", "solid-start"),
        config=_files("app.config", "vite.config"),
        runs=r"\b(vinxi|solid-start|vite)\s+build\b",
        command="vinxi build",
        outputs=(".output/public", "dist/public", "dist"),
        spa_when=r"\bssr\s*:\s*false\b",
        server=Server(
            unless=r"\bstatic\b|\bssr\s*:\s*false\b",
            advice='set ssr: false, or server: { preset: "static" }, in app.config',
        ),
    ),
    Framework(
        name="tanstack-start",
        title="TanStack Start",
        packages=("@tanstack/react-start", "@tanstack/solid-start", "@tanstack/start"),
        config=_files("vite.config", "app.config"),
        runs=r"\b(vite|vinxi)\s+build\b",
        command="vite build",
        outputs=("dist/client", ".output/public"),
        spa_when=r"\bspa\s*:",
        server=Server(
            unless=r"\bspa\s*:|\bprerender\b", advice="enable spa or prerender of tanstackStart in vite.config"
        ),
    ),
    Framework(
        name="qwik",
        title="Qwik",
        packages=("@builder.io/qwik-city", "@qwik.dev/router"),
        config=_VITE,
        runs=r"\bqwik\s+build\b|\bvite\s+build\b",
        command="qwik build",
        outputs=("dist",),
        server=Server(
            unless=r"adapters/static|\bstatic\b.{0,500}\bvite\b",
            unless_files=("adapters/static",),
            advice='add its adapter for static sites: "qwik add static"',
        ),
    ),
    Framework(
        name="angular",
        title="Angular",
        packages=("@angular/core", "@angular/cli"),
        config=("angular.json",),
        runs=r"\bng\s+(build|run)\b",
        command="ng build",
        outputs=("dist",),
        option=r"--output-path[= ]+[\"']?([^\s\"']+)",
        spa=True,
        server=Server(
            when=r"\"outputMode\"\s*:\s*\"server\"",
            advice='set "outputMode": "static" in angular.json',
        ),
    ),
    Framework(
        name="gatsby",
        title="Gatsby",
        packages=("gatsby",),
        config=_files("gatsby-config"),
        runs=r"\bgatsby\s+build\b",
        command="gatsby build",
        outputs=("public",),
    ),
    Framework(
        name="docusaurus",
        title="Docusaurus",
        packages=("@docusaurus/core",),
        config=_files("docusaurus.config"),
        runs=r"\bdocusaurus\s+build\b",
        command="docusaurus build",
        outputs=("build",),
        option=_OUT_DIR,
    ),
    Framework(
        name="vitepress",
        title="VitePress",
        packages=("vitepress",),
        config=(".vitepress", "docs/.vitepress"),
        runs=r"\bvitepress\s+build\b(?:[ \t]+(?P<dir>[A-Za-z0-9_./][\w./-]*))?",
        command="vitepress build",
        scripts=("docs:build", "docs-build", "build:docs"),
        outputs=("{dir}/.vitepress/dist", ".vitepress/dist", "docs/.vitepress/dist"),
        option=_OUT_DIR,
    ),
    Framework(
        name="vuepress",
        title="VuePress",
        packages=("vuepress", "@vuepress/cli", "@vuepress/core", "vuepress-webpack", "vuepress-vite"),
        config=(".vuepress", "docs/.vuepress"),
        runs=r"\bvuepress\s+build\b(?:[ \t]+(?P<dir>[A-Za-z0-9_./][\w./-]*))?",
        command="vuepress build",
        scripts=("docs:build", "docs-build", "build:docs"),
        outputs=("{dir}/.vuepress/dist", ".vuepress/dist", "docs/.vuepress/dist"),
        option=r"(?:--dest|-d)[= ]+[\"']?([^\s\"']+)",
    ),
    Framework(
        name="rspress",
        title="Rspress",
        packages=("rspress", "@rspress/core"),
        config=_files("rspress.config"),
        runs=r"\brspress\s+build\b",
        command="rspress build",
        outputs=("doc_build",),
        key=_VITE_KEY,
    ),
    Framework(
        name="eleventy",
        title="Eleventy",
        packages=("@11ty/eleventy",),
        config=(".eleventy.js", *_files("eleventy.config", endings=("js", "mjs", "cjs", "ts"))),
        runs=r"\beleventy\b",
        command="eleventy",
        outputs=("_site",),
        option=r"--output[= ]+[\"']?([^\s\"']+)",
        key=r"\boutput\s*:\s*[\"'`]([^\"'`$]+)|setOutputDirectory\(\s*[\"'`]([^\"'`$]+)",
    ),
    Framework(
        name="hexo",
        title="Hexo",
        packages=("hexo",),
        config=("_config.yml",),
        runs=r"\bhexo\s+(generate|g)\b",
        command="hexo generate",
        outputs=("public",),
    ),
    Framework(
        name="create-react-app",
        title="Create React App",
        packages=("react-scripts",),
        runs=r"\b(react-scripts|craco|react-app-rewired)\s+build\b",
        command="react-scripts build",
        outputs=("build",),
        spa=True,
    ),
    Framework(
        name="vue-cli",
        title="Vue CLI",
        packages=("@vue/cli-service",),
        config=_files("vue.config"),
        runs=r"\bvue-cli-service\s+build\b",
        command="vue-cli-service build",
        outputs=("dist",),
        option=r"--dest[= ]+[\"']?([^\s\"']+)",
        key=r"\boutputDir\s*:\s*[\"'`]([^\"'`$]+)",
        spa=True,
    ),
    Framework(
        name="ember",
        title="Ember",
        packages=("ember-cli", "ember-source"),
        config=("ember-cli-build.js", ".ember-cli", "ember-cli-build.mjs", "ember-cli-build.cjs"),
        runs=r"\bember\s+(build|b)\b|\bvite\s+build\b",
        command="ember build --environment=production",
        outputs=("dist",),
        option=r"--output-path[= ]+[\"']?([^\s\"']+)",
        spa=True,
    ),
    Framework(
        name="quasar",
        title="Quasar",
        packages=("@quasar/app-vite", "@quasar/app-webpack", "@quasar/app"),
        config=_files("quasar.config", "quasar.conf"),
        runs=r"\bquasar\s+build\b",
        command="quasar build",
        outputs=("dist/spa", "dist/pwa"),
        spa=True,
    ),
    Framework(
        name="stencil",
        title="Stencil",
        packages=("@stencil/core",),
        config=_files("stencil.config"),
        runs=r"\bstencil\s+build\b",
        command="stencil build",
        outputs=("www", "dist"),
        spa=True,
    ),
    Framework(
        name="slidev",
        title="Slidev",
        packages=("@slidev/cli",),
        config=("slides.md",),
        runs=r"\bslidev\s+build\b",
        command="slidev build",
        outputs=("dist",),
        option=r"--out[= ]+[\"']?([^\s\"']+)",
        spa=True,
    ),
    Framework(
        name="umi",
        title="Umi",
        packages=("umi", "@umijs/max"),
        config=(*_files(".umirc"), "config/config.ts", "config/config.js"),
        runs=r"\b(umi|max)\s+build\b",
        command="umi build",
        outputs=("dist",),
        key=r"\boutputPath\s*:\s*[\"'`]([^\"'`$]+)",
        spa=True,
    ),
    Framework(
        name="qwik-client",
        title="Qwik without its router",
        packages=("@builder.io/qwik", "@qwik.dev/core"),
        along=("vite",),
        config=_VITE,
        runs=_VITE_RUNS,
        command="vite build",
        outputs=("dist",),
        option=_OUT_DIR,
        key=_VITE_KEY,
        spa=True,
    ),
    Framework(
        name="solid",
        title="Solid",
        packages=("vite-plugin-solid",),
        config=_VITE,
        runs=_VITE_RUNS,
        command="vite build",
        outputs=("dist",),
        option=_OUT_DIR,
        key=_VITE_KEY,
        spa=True,
    ),
    Framework(
        name="lit",
        title="Lit",
        packages=("lit", "lit-element"),
        along=("vite",),
        config=_VITE,
        runs=_VITE_RUNS,
        command="vite build",
        outputs=("dist",),
        option=_OUT_DIR,
        key=_VITE_KEY,
        spa=True,
    ),
    Framework(
        name="vite",
        title="Vite",
        packages=("vite", "rolldown-vite", "vite-plus"),
        config=_VITE,
        runs=_VITE_RUNS,
        command="vite build",
        outputs=("dist",),
        option=_OUT_DIR,
        key=_VITE_KEY,
        spa=True,
    ),
    Framework(
        name="rsbuild",
        title="Rsbuild",
        packages=("@rsbuild/core",),
        config=_files("rsbuild.config"),
        runs=r"\brsbuild\s+build\b",
        command="rsbuild build",
        outputs=("dist",),
        key=r"\broot\s*:\s*[\"'`]([^\"'`$]+)",
        spa=True,
    ),
    Framework(
        name="parcel",
        title="Parcel",
        packages=("parcel", "parcel-bundler"),
        config=(".parcelrc",),
        runs=r"\bparcel\s+build\b",
        outputs=("dist",),
        option=r"(?:--dist-dir|--out-dir|-d)[= ]+[\"']?([^\s\"']+)",
        spa=True,
    ),
    Framework(
        name="hugo",
        title="Hugo",
        packages=("hugo-bin", "hugo-extended"),
        config=("hugo.toml", "hugo.yaml", "hugo.yml", "hugo.json", "config.toml", "config.yaml", "config/_default"),
        alone=True,
        beside=("archetypes", "content", "layouts", "themes", "go.mod"),
        runs=r"\bhugo\b",
        command="hugo --gc --minify",
        outputs=("public",),
        option=r"(?:--destination|-d)[= ]+[\"']?([^\s\"']+)",
        key=r"\bpublishDir[\"']?\s*[=:]\s*[\"']([^\"'\n]+)",
        needs=("hugo",),
    ),
    Framework(
        name="jekyll",
        title="Jekyll",
        config=("_config.yml", "_config.yaml"),
        alone=True,
        runs=r"\bjekyll\s+(build|b)\b",
        command="jekyll build",
        outputs=("_site",),
        option=r"(?:--destination|-d)[= ]+[\"']?([^\s\"']+)",
        key=r"(?m:^)destination\s*:\s*[\"']?([^\s\"'#]+)",
        needs=("jekyll",),
    ),
    Framework(
        name="storybook",
        title="Storybook",
        packages=("storybook", "@storybook/cli", "@storybook/react", "@storybook/vue3", "@storybook/web-components"),
        config=(".storybook",),
        runs=r"\bstorybook\s+build\b|\bbuild-storybook\b",
        command="storybook build",
        scripts=("build-storybook", "storybook:build", "build:storybook"),
        outputs=("storybook-static",),
        option=r"(?:--output-dir|-o)[= ]+[\"']?([^\s\"']+)",
    ),
)

BY_NAME = {framework.name: framework for framework in FRAMEWORKS}

#: What may be used by a project that depends on a package, and what may be by files alone; as numbers in the table.
_BY_PACKAGE: dict[str, list[int]] = {}
for _number, _framework in enumerate(FRAMEWORKS):
    for _package in _framework.packages:
        _BY_PACKAGE.setdefault(_package, []).append(_number)
_ALONE = [number for number, framework in enumerate(FRAMEWORKS) if framework.alone]


def possible(dependencies: Iterable[str]) -> list[Framework]:
    """Return the frameworks of which there may be signs in a project that depends on these packages, in order."""
    numbers = {number for name in dependencies for number in _BY_PACKAGE.get(name, ())}
    return [FRAMEWORKS[number] for number in sorted(numbers.union(_ALONE))]
