"""
The rows of the corpus: official scaffolds of exact versions where they come from the package registry alone, and small
projects of our own for the frameworks whose scaffolds fetch from elsewhere. None of them is configured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.corpus.rows import Row, Seen

_CREATE_VITE = "create-vite@6.5.0"

#: A deep link of a single-page application: it has no file, and answers with the application.
_DEEP = Seen("/settings/profile", 200, "<div id=")
#: The same of a site that has no such page, and isn't an application.
_NO_PAGE = Seen("/settings/profile", 404)


def _package(name: str, scripts: Mapping[str, str], needs: Mapping[str, str], **more: Any) -> str:
    said = {"name": name, "version": "1.0.0", "private": True, "scripts": scripts, "dependencies": needs, **more}
    return json.dumps(said, indent=2) + "\n"


def _vite(template: str, **more: Any) -> Row:
    arguments = ("app", "--template", template)
    return Row(**{"framework": "vite", "scaffold": (_CREATE_VITE, *arguments), "see": (_DEEP,), **more})


_MAIN = 'document.querySelector("#app").textContent = "It works";\n'
_PAGE = '<!doctype html><title>{title}</title><div id="app"></div><script type="module" src="{script}"></script>\n'

ROWS: tuple[Row, ...] = (
    # -- Vite, by each of the five managers
    _vite("react", name="vite-react", manager="npm", quick=True),
    _vite("vue", name="vite-vue-pnpm", manager="pnpm", quick=True),
    _vite("svelte", name="vite-svelte-yarn4", manager="yarn 4", see=(Seen("/settings/profile", 200, 'id="app"'),)),
    _vite(
        "solid",
        framework="solid",
        name="vite-solid-bun",
        manager="bun",
        see=(Seen("/settings/profile", 200, 'id="root"'),),
    ),
    _vite("preact", name="vite-preact-yarn1", manager="yarn 1", see=(Seen("/settings/profile", 200, 'id="app"'),)),
    _vite("lit-ts", framework="lit", name="vite-lit", see=(Seen("/settings/profile", 200, "<my-element"),)),
    _vite("vanilla-ts", name="vite-vanilla-nolock", lock=False),
    _vite("qwik", framework="qwik-client", name="vite-qwik", see=(Seen("/settings/profile", 200, 'id="app"'),)),
    # -- Yarn 4 without node_modules
    Row(
        name="yarn4-pnp",
        framework="vite",
        manager="yarn 4",
        files={
            "package.json": _package("pnp", {"build": "vite build"}, {"vite": "6.3.5"}),
            ".yarnrc.yml": "nodeLinker: pnp\n",
            "index.html": _PAGE.format(title="PnP", script="/main.js"),
            "main.js": _MAIN,
        },
        see=(Seen("/", 200, "PnP"),),
    ),
    # -- frameworks that make a folder of their own
    Row(
        name="next-export",
        framework="next",
        files={
            "package.json": _package(
                "next-export",
                {"dev": "next dev", "build": "next build", "start": "next start"},
                {"next": "15.3.3", "react": "19.0.0", "react-dom": "19.0.0"},
            ),
            "next.config.mjs": 'export default { output: "export" };\n',
            "app/layout.js": "export default ({ children }) => <html><body>{children}</body></html>;\n",
            "app/page.js": "export default () => <h1>Exported</h1>;\n",
            "app/about/page.js": "export default () => <h1>About us</h1>;\n",
            "public/logo.svg": '<svg xmlns="http://www.w3.org/2000/svg"/>\n',
        },
        see=(Seen("/", 200, "Exported"), Seen("/about", 200, "About us"), Seen("/logo.svg"), _NO_PAGE),
    ),
    Row(
        name="next-server",
        framework="next",
        files={
            "package.json": _package(
                "next-server",
                {"build": "next build"},
                {"next": "15.3.3", "react": "19.0.0", "react-dom": "19.0.0"},
            ),
            "app/layout.js": "export default ({ children }) => <html><body>{children}</body></html>;\n",
            "app/page.js": "export default () => <h1>Served</h1>;\n",
            "public/logo.svg": '<svg xmlns="http://www.w3.org/2000/svg"/>\n',
        },
        refusal='output: "export"',
    ),
    Row(
        name="nuxt-generate",
        framework="nuxt",
        manager="pnpm",  # npm wants all optional packages for other machines too, which some registries lack
        files={
            "package.json": _package(
                "nuxt-app",
                {"build": "nuxt build", "generate": "nuxt generate", "dev": "nuxt dev"},
                {"nuxt": "3.21.11", "vue": "^3.5.13"},
                type="module",
            ),
            "nuxt.config.ts": "export default defineNuxtConfig({ telemetry: false });\n",
            "app.vue": "<template><NuxtPage /></template>\n",
            "pages/index.vue": '<template><h1>Generated</h1><NuxtLink to="/about">About</NuxtLink></template>\n',
            "pages/about.vue": "<template><h1>About us</h1></template>\n",
        },
        see=(Seen("/", 200, "Generated"), Seen("/about", 200, "About us")),
    ),
    Row(
        name="astro",
        framework="astro",
        manager="pnpm",
        files={
            "package.json": _package("astro-site", {"build": "astro build"}, {"astro": "5.7.0"}, type="module"),
            "astro.config.mjs": 'import { defineConfig } from "astro/config";\nexport default defineConfig({});\n',
            "src/pages/index.astro": "<html><head><title>Stars</title></head><body><h1>Stars</h1></body></html>\n",
            "src/pages/about.astro": "<html><head><title>About</title></head><body><h1>About us</h1></body></html>\n",
            "public/logo.svg": '<svg xmlns="http://www.w3.org/2000/svg"/>\n',
        },
        see=(Seen("/", 200, "Stars"), Seen("/about", 200, "About us"), Seen("/logo.svg"), _NO_PAGE),
        quick=True,
    ),
    Row(
        name="sveltekit-static",
        framework="sveltekit",
        files={
            "package.json": _package(
                "kit",
                {"build": "vite build"},
                {
                    "@sveltejs/adapter-static": "3.0.8",
                    "@sveltejs/kit": "2.20.0",
                    "@sveltejs/vite-plugin-svelte": "5.0.3",
                    "svelte": "5.28.2",
                    "vite": "6.3.5",
                },
                type="module",
            ),
            "svelte.config.js": (
                'import adapter from "@sveltejs/adapter-static";\nexport default { kit: { adapter: adapter() } };\n'
            ),
            "vite.config.js": (
                'import { sveltekit } from "@sveltejs/kit/vite";\n'
                'import { defineConfig } from "vite";\n'
                "export default defineConfig({ plugins: [sveltekit()] });\n"
            ),
            "src/app.html": "<!doctype html><html><head>%sveltekit.head%</head><body>%sveltekit.body%</body></html>\n",
            "src/routes/+layout.js": "export const prerender = true;\n",
            "src/routes/+page.svelte": '<h1>Kit</h1><a href="/about">About</a>\n',
            "src/routes/about/+page.svelte": "<h1>About us</h1>\n",
        },
        see=(Seen("/", 200, "Kit"), Seen("/about", 200, "About us"), _NO_PAGE),
    ),
    Row(
        name="sveltekit-server",
        framework="sveltekit",
        files={
            "package.json": _package(
                "kit-node",
                {"build": "vite build"},
                {
                    "@sveltejs/adapter-node": "5.2.12",
                    "@sveltejs/kit": "2.20.0",
                    "@sveltejs/vite-plugin-svelte": "5.0.3",
                    "svelte": "5.28.2",
                    "vite": "6.3.5",
                },
                type="module",
            ),
            "svelte.config.js": (
                'import adapter from "@sveltejs/adapter-node";\nexport default { kit: { adapter: adapter() } };\n'
            ),
            "vite.config.js": (
                'import { sveltekit } from "@sveltejs/kit/vite";\n'
                'import { defineConfig } from "vite";\n'
                "export default defineConfig({ plugins: [sveltekit()] });\n"
            ),
            "src/app.html": "<!doctype html><html><head>%sveltekit.head%</head><body>%sveltekit.body%</body></html>\n",
            "src/routes/+page.svelte": "<h1>Kit</h1>\n",
        },
        refusal="@sveltejs/adapter-static",
    ),
    Row(
        name="angular",
        framework="angular",
        scaffold=("@angular/cli@19.2.0", "new", "app", "--defaults", "--skip-install", "--skip-git", "--ssr=false"),
        see=(Seen("/", 200, "<app-root"), Seen("/settings/profile", 200, "<app-root")),
        slow=True,
    ),
    Row(
        name="vue-cli",
        framework="vue-cli",
        manager="yarn 1",
        files={
            "package.json": _package(
                "vue-cli-app",
                {"build": "vue-cli-service build"},
                {"vue": "3.5.13", "@vue/cli-service": "5.0.8"},
            ),
            "public/index.html": '<!DOCTYPE html><html><body><div id="app"></div></body></html>\n',
            "src/main.js": (
                'import { createApp } from "vue";\nimport App from "./App.vue";\ncreateApp(App).mount("#app");\n'
            ),
            "src/App.vue": "<template><h1>Vue</h1></template>\n",
        },
        see=(Seen("/settings/profile", 200, '<div id="app">'),),
    ),
    Row(
        name="create-react-app",
        framework="create-react-app",
        files={
            "package.json": _package(
                "cra-app",
                {"build": "react-scripts build"},
                {"react": "18.3.1", "react-dom": "18.3.1", "react-scripts": "5.0.1"},
                browserslist=["defaults"],
            ),
            "public/index.html": '<!DOCTYPE html><html lang="en"><body><div id="root"></div></body></html>\n',
            "public/favicon.svg": '<svg xmlns="http://www.w3.org/2000/svg"/>\n',
            "src/index.js": (
                'import { createRoot } from "react-dom/client";\n'
                'createRoot(document.getElementById("root")).render(<h1>React</h1>);\n'
            ),
        },
        see=(Seen("/settings/profile", 200, '<div id="root">'), Seen("/favicon.svg")),
        slow=True,
    ),
    Row(
        name="react-router-spa",
        framework="react-router",
        files={
            "package.json": _package(
                "router-app",
                {"build": "react-router build"},
                {
                    "@react-router/dev": "7.5.0",
                    "@react-router/node": "7.5.0",
                    "isbot": "5.1.26",
                    "react": "19.0.0",
                    "react-dom": "19.0.0",
                    "react-router": "7.5.0",
                    "vite": "6.3.5",
                },
                type="module",
            ),
            "react-router.config.js": "export default { ssr: false };\n",
            "vite.config.js": (
                'import { reactRouter } from "@react-router/dev/vite";\n'
                'import { defineConfig } from "vite";\n'
                "export default defineConfig({ plugins: [reactRouter()] });\n"
            ),
            "app/root.jsx": (
                'import { Outlet, Scripts } from "react-router";\n'
                "export function Layout({ children }) {\n"
                "  return <html><head><title>Routed</title></head><body>{children}<Scripts /></body></html>;\n"
                "}\n"
                "export default function App() { return <Outlet />; }\n"
            ),
            "app/routes.js": (
                'import { index } from "@react-router/dev/routes";\nexport default [index("routes/home.jsx")];\n'
            ),
            "app/routes/home.jsx": "export default function Home() { return <h1>Home</h1>; }\n",
        },
        see=(Seen("/", 200, "Routed"), Seen("/settings/profile", 200, "Routed")),
    ),
    Row(
        name="eleventy",
        framework="eleventy",
        files={
            "package.json": _package("eleventy-site", {"build": "eleventy"}, {"@11ty/eleventy": "3.0.0"}),
            "index.md": "# Eleven\n",
            "about.md": "# About us\n",
            "public/logo.txt": "a source\n",
        },
        see=(Seen("/", 200, "Eleven"), Seen("/about/", 200, "About us"), _NO_PAGE),
        quick=True,
    ),
    Row(
        name="docusaurus",
        framework="docusaurus",
        manager="pnpm",  # as for Nuxt
        scaffold=(
            "create-docusaurus@3.10.2",
            "app",
            "classic",
            "--javascript",
            "--skip-install",
            "--package-manager",
            "pnpm",
        ),
        see=(Seen("/", 200, "My Site"), Seen("/docs/intro", 200, "Tutorial Intro"), Seen("/no/such/page", 404)),
        slow=True,
    ),
    Row(
        name="vitepress-docs",
        framework="vitepress",
        manager="pnpm",
        files={
            "package.json": _package(
                "vitepress-site", {"docs:build": "vitepress build docs"}, {"vitepress": "1.6.3", "vue": "3.5.13"}
            ),
            "docs/.vitepress/config.mjs": 'export default { title: "Press" };\n',
            "docs/index.md": "# Press\n",
            "docs/guide.md": "# Guide\n",
        },
        see=(Seen("/", 200, "Press"), Seen("/guide", 200, "Guide"), _NO_PAGE),
    ),
    Row(
        name="vuepress",
        framework="vuepress",
        files={
            "package.json": _package(
                "vuepress-site",
                {"docs:build": "vuepress build docs"},
                {
                    "vuepress": "2.0.0-rc.20",
                    "@vuepress/bundler-vite": "2.0.0-rc.20",
                    "@vuepress/theme-default": "2.0.0-rc.88",
                    "sass-embedded": "1.86.3",
                    "vue": "3.5.13",
                },
                type="module",
            ),
            "docs/.vuepress/config.js": (
                'import { viteBundler } from "@vuepress/bundler-vite";\n'
                'import { defaultTheme } from "@vuepress/theme-default";\n'
                "export default { bundler: viteBundler(), theme: defaultTheme() };\n"
            ),
            "docs/README.md": "# Pressed\n",
        },
        see=(Seen("/", 200, "Pressed"),),
    ),
    Row(
        name="storybook",
        framework="storybook",
        manager="pnpm",
        files={
            "package.json": _package(
                "stories",
                {"storybook": "storybook dev", "build-storybook": "storybook build"},
                {
                    "@storybook/html-vite": "8.6.12",
                    "@storybook/html": "8.6.12",
                    "storybook": "8.6.12",
                    "vite": "6.3.5",
                },
            ),
            ".storybook/main.js": (
                'export default { stories: ["../src/*.stories.js"], framework: "@storybook/html-vite",\n'
                "  core: { disableTelemetry: true } };\n"
            ),
            "src/button.stories.js": (
                'export default { title: "Button", render: () => "<b>Press</b>" };\nexport const Plain = {};\n'
            ),
        },
        see=(Seen("/", 200, "storybook"), Seen("/iframe.html")),
        slow=True,
    ),
    Row(
        name="parcel",
        framework="parcel",
        files={
            "package.json": _package(
                "parcel-site", {"build": "parcel build"}, {"parcel": "2.14.4"}, source="src/index.html"
            ),
            "src/index.html": '<!doctype html><title>Parcelled</title><script type="module" src="main.js"></script>\n',
            "src/main.js": 'document.title = "It works";\n',
        },
        see=(Seen("/", 200, "<title>Parcelled"),),
    ),
    Row(
        name="ember",
        framework="ember",
        scaffold_folder="shop",
        scaffold=("ember-cli@6.3.1", "new", "shop", "--skip-npm", "--skip-git", "--lang", "en"),
        see=(Seen("/settings/profile", 200, "shop/config/environment"),),
        slow=True,
    ),
    # -- Node versions
    Row(
        name="node-version-file",
        framework="vite",
        files={
            ".nvmrc": "22\n",
            "package.json": _package(
                "nodes", {"build": "node --version > version.txt && vite build"}, {"vite": "6.3.5"}
            ),
            "index.html": _PAGE.format(title="Nodes", script="/main.js"),
            "main.js": _MAIN,
        },
        node="22.",
    ),
    Row(
        name="node-engines-range",
        framework="vite",
        manager="pnpm",
        files={
            "package.json": _package(
                "engines", {"build": "vite build"}, {"vite": "6.3.5"}, engines={"node": ">=18 <19"}
            ),
            "index.html": _PAGE.format(title="Engines", script="/main.js"),
            "main.js": _MAIN,
        },
        node="18.",
    ),
    # -- repositories of several packages
    Row(
        name="pnpm-turbo-app",
        framework="vite",
        manager="pnpm",
        settings={"settings": {"root": "apps/web"}},
        files={
            "package.json": json.dumps(
                {
                    "name": "everything",
                    "private": True,
                    "scripts": {"build": "turbo run build"},
                    "devDependencies": {"turbo": "2.5.0"},
                }
            ),
            "pnpm-workspace.yaml": 'packages:\n  - "apps/*"\n  - "packages/*"\ncatalog:\n  vite: 6.3.5\n',
            "turbo.json": json.dumps({"tasks": {"build": {"dependsOn": ["^build"], "outputs": ["dist/**"]}}}),
            "apps/web/package.json": _package(
                "web", {"build": "vite build"}, {"@acme/ui": "workspace:*", "vite": "catalog:"}, type="module"
            ),
            "apps/web/index.html": _PAGE.format(title="Web", script="/main.js"),
            "apps/web/main.js": 'import { greeting } from "@acme/ui";\ndocument.title = greeting;\n',
            "apps/admin/package.json": _package("admin", {"build": "exit 1"}, {}),
            "packages/ui/package.json": json.dumps(
                {
                    "name": "@acme/ui",
                    "version": "1.0.0",
                    "type": "module",
                    "main": "dist/index.js",
                    "scripts": {"build": "mkdir -p dist && cp index.js dist/"},
                }
            ),
            "packages/ui/index.js": 'export const greeting = "Hello from the workspace";\n',
        },
        see=(Seen("/", 200, "<title>Web"),),
    ),
    Row(
        name="npm-workspaces-app",
        framework="vite",
        settings={"settings": {"root": "apps/web"}},
        files={
            "package.json": json.dumps({"name": "all", "private": True, "workspaces": ["apps/*", "packages/*"]}),
            "apps/web/package.json": _package(
                "web", {"build": "vite build"}, {"@acme/ui": "1.0.0", "vite": "6.3.5"}, type="module"
            ),
            "apps/web/index.html": _PAGE.format(title="Web", script="/main.js"),
            "apps/web/main.js": 'import { greeting } from "@acme/ui";\ndocument.title = greeting;\n',
            "packages/ui/package.json": json.dumps(
                {"name": "@acme/ui", "version": "1.0.0", "type": "module", "main": "index.js"}
            ),
            "packages/ui/index.js": 'export const greeting = "Hello from the workspace";\n',
        },
        see=(Seen("/", 200, "<title>Web"),),
    ),
    Row(
        name="yarn4-workspaces-app",
        framework="vite",
        manager="yarn 4",
        settings={"settings": {"root": "apps/web"}},
        files={
            "package.json": json.dumps({"name": "all", "private": True, "workspaces": ["apps/*", "packages/*"]}),
            ".yarnrc.yml": "nodeLinker: node-modules\n",
            "apps/web/package.json": _package(
                "web", {"build": "vite build"}, {"@acme/ui": "workspace:*", "vite": "6.3.5"}, type="module"
            ),
            "apps/web/index.html": _PAGE.format(title="Web", script="/main.js"),
            "apps/web/main.js": 'import { greeting } from "@acme/ui";\ndocument.title = greeting;\n',
            "packages/ui/package.json": json.dumps(
                {"name": "@acme/ui", "version": "1.0.0", "type": "module", "main": "index.js"}
            ),
            "packages/ui/index.js": 'export const greeting = "Hello from the workspace";\n',
        },
        see=(Seen("/", 200, "<title>Web"),),
    ),
    # -- what needs no build, and what is wrong
    Row(
        name="plain-html",
        framework="",
        manager="",
        files={
            "index.html": '<!doctype html><title>Plain</title><link rel="stylesheet" href="/style.css">\n',
            "about.html": "<!doctype html><title>About us</title>\n",
            "style.css": "body { color: black }\n",
        },
        see=(Seen("/", 200, "Plain"), Seen("/about", 200, "About us"), _NO_PAGE),
        quick=True,
    ),
    Row(
        name="lock-out-of-date",
        framework="vite",
        manager="pnpm",
        lock=False,
        files={
            "package.json": _package("late", {"build": "vite build"}, {"vite": "6.3.5"}),
            "pnpm-lock.yaml": "lockfileVersion: '9.0'\n\nimporters:\n\n  .: {}\n",
            "index.html": _PAGE.format(title="Late", script="/main.js"),
            "main.js": _MAIN,
        },
        refusal="pnpm-lock.yaml",
        quick=True,
    ),
)
