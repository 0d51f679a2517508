"""What a line of shell does, as far as that is told by its words: install, build, check, deploy. Pure."""

from __future__ import annotations

import re
from typing import Literal

Kind = Literal["needless", "install", "check", "deploy", "build"]

#: What the platform does by itself, for the package manager that the project has.
_INSTALLS_AS_USUAL = re.compile(
    r"npm (?:ci|clean-install)(?: --prefer-offline| --no-audit| --no-fund)*"
    r"|pnpm (?:i|install)(?: --frozen-lockfile| --prefer-offline)*"
    r"|yarn(?: install)?(?: --frozen-lockfile| --immutable| --prefer-offline)*"
    r"|bun (?:i|install)(?: --frozen-lockfile)?"
)
_SETS_UP = re.compile(
    r"corepack (?:enable|prepare|use|install)\b.*|(?:npm|pnpm|yarn|node|bun|git) (?:-v|--version)|echo\b[^|>;&]*"
    r"|npm (?:i|install) (?:-g|--global) (?:npm|pnpm|yarn|corepack)(?:@\S+)?|git config --global\b.*|ls\b.*|pwd|true"
)
_INSTALLS = re.compile(r"(?:npm (?:i|install|ci)|pnpm (?:i|install)|yarn install|yarn|bun (?:i|install))(?: -.*|)")
_CHECKS = re.compile(
    r"(?:npm|pnpm|yarn|bun)(?: run)? (?:test|t|lint|typecheck|type-check|check|format|coverage|e2e|unit|knip|audit)"
    r"(?:[:\w-]*)\b.*|(?:npx|pnpm exec|pnpm dlx|yarn|bunx) (?:vitest|jest|eslint|prettier|tsc --noEmit|playwright|"
    r"cypress|stylelint|biome|knip|lhci)\b.*"
)
_DEPLOYS = re.compile(
    r".*\b(?:netlify|vercel|wrangler|firebase|surge|gh-pages|aws s3|rsync|scp|npm publish|pnpm publish|git push|"
    r"gcloud|az storage|flyctl|docker push)\b.*"
)


def kind_of(command: str) -> Kind:
    """Return what a command does."""
    command = " ".join(command.split())
    if _INSTALLS_AS_USUAL.fullmatch(command) or _SETS_UP.fullmatch(command):
        return "needless"
    if _INSTALLS.fullmatch(command):
        return "install"
    if _CHECKS.fullmatch(command):
        return "check"
    if _DEPLOYS.fullmatch(command) and not re.search(r"\bbuild\b", command):
        return "deploy"
    return "build"
