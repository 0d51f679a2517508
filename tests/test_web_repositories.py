"""The API of private repositories: deploy keys, tokens and host keys."""

from __future__ import annotations

import re
from typing import Any

from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key
from sqlalchemy import Connection, select

from tests.web_world import World
from twistedipc.storage import access
from twistedipc.storage.tables import audit, repository_access

KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIGZvb2Jhcg=="
AT = "/api/v1/projects/shop"


def _audited(connection: Connection, action: str) -> list[str]:
    query = select(audit.c.detail).where(audit.c.action == action).order_by(audit.c.id)
    return list(connection.execute(query).scalars())


class Repositories(World):
    async def private(self, repository: str = "git@git.example:acme/shop.git") -> Any:
        """A project with this repository, and what is shown of how that is read."""
        await self.project(repository=repository)

    async def shown(self) -> Any:
        return (await self.ask("GET", AT)).json

    async def test_a_deploy_key(self) -> None:
        await self.private()
        assert (await self.shown())["access"] is None
        made = await self.ask("POST", f"{AT}/deploy-key")
        assert made.status == 200
        assert made.json["host"] == "ssh://git.example"
        assert re.fullmatch(r"ssh-ed25519 AAAA\S+ twistedipc-shop", made.json["public_key"])
        assert made.json["fingerprint"].startswith("SHA256:")
        assert "PRIVATE" not in made.raw.decode()
        shown = await self.shown()
        assert shown["access"] == made.json
        # What is sealed is the other half.
        rows = await self.ledger.read(lambda connection: connection.execute(select(repository_access)).all())
        private = load_ssh_private_key(self.context.secret_box.open(rows[0].deploy_key).encode(), None)
        public = load_ssh_public_key(made.json["public_key"].encode())
        assert private.public_key() == public
        again = await self.ask("POST", f"{AT}/deploy-key")
        assert again.json["public_key"] != made.json["public_key"]
        assert (await self.ask("DELETE", f"{AT}/deploy-key")).status == 204
        assert (await self.shown())["access"]["public_key"] == ""
        self.problem(await self.ask("DELETE", f"{AT}/deploy-key"), 404)
        details = await self.ledger.read(_audited, "deploy_key.make")
        assert len(details) == 2
        assert "SHA256:" in details[0]

    async def test_a_key_is_for_ssh_and_a_token_for_https(self) -> None:
        await self.private("https://git.example/shop.git")
        refused = await self.ask("POST", f"{AT}/deploy-key")
        self.problem(refused, 422, "a deploy key is for a repository that is fetched by ssh")
        assert (await self.ask("PUT", f"{AT}/secrets/git_token", {"value": "glpat-1"})).status == 204
        shown = await self.shown()
        assert (shown["access"]["token"], shown["access"]["host"]) == (True, "https://git.example")
        assert "glpat-1" not in str(shown)
        assert shown["build_secrets"] == []
        await self.ask("PATCH", AT, {"repository": "http://git.example/shop.git"})
        refused = await self.ask("PUT", f"{AT}/secrets/git_token", {"value": "glpat-1"})
        self.problem(refused, 422, "fetched by https")

    async def test_another_host_makes_them_void_and_another_path_does_not(self) -> None:
        await self.private("https://git.example/shop.git")
        await self.ask("PUT", f"{AT}/secrets/git_token", {"value": "glpat-1"})
        moved = await self.ask("PATCH", AT, {"repository": "https://GIT.example:443/other.git"})
        assert (moved.json["notices"], moved.json["access"]["token"]) == ([], True)
        moved = await self.ask("PATCH", AT, {"repository": "https://elsewhere.example/other.git"})
        assert moved.json["access"] is None
        assert "git_token for https://git.example" in moved.json["notices"][0]
        details = await self.ledger.read(_audited, "secret.void")
        assert '"git_token"' in details[0]
        self.problem(await self.ask("DELETE", f"{AT}/secrets/git_token"), 404)

    async def test_host_keys(self) -> None:
        await self.private("ssh://git@git.example:2222/acme/shop.git")
        scanned = f"# git.example:2222 SSH-2.0\n[git.example]:2222 ssh-ed25519 {KEY}\nother ssh-rsa {KEY}\n"
        answer = await self.ask("PUT", f"{AT}/known-hosts", {"lines": scanned})
        assert [each["line"] for each in answer.json["host_keys"]] == [f"[git.example]:2222 ssh-ed25519 {KEY}"]
        for lines in ("other ssh-ed25519 AAAA", "|1|x|y ssh-ed25519 AAAA", "git.example", "x y z"):
            self.problem(await self.ask("PUT", f"{AT}/known-hosts", {"lines": lines}), 422)
        # What a builder has seen first doesn't replace it.
        other = f"[git.example]:2222 ssh-ed25519 {KEY.replace('Z', 'Y')}"
        await self.ledger.write(access.pin, "shop", [other], "b1", 9)
        assert len((await self.shown())["access"]["host_keys"]) == 1
        assert (await self.ask("DELETE", f"{AT}/known-hosts")).status == 204
        self.problem(await self.ask("DELETE", f"{AT}/known-hosts"), 404)
        await self.ledger.write(access.pin, "shop", ["elsewhere ssh-ed25519 AAAA"], "b1", 9)
        assert (await self.shown())["access"]["host_keys"] == []
        await self.ledger.write(access.pin, "shop", [other], "b1", 9)
        assert [each["line"] for each in (await self.shown())["access"]["host_keys"]] == [other]
        assert len(await self.ledger.read(_audited, "known_hosts.pin")) == 1

    async def test_only_an_admin(self) -> None:
        await self.private()
        builder = await self.token("bo", "build")
        for method, path, body in (
            ("POST", "deploy-key", None),
            ("DELETE", "deploy-key", None),
            ("PUT", "known-hosts", {"lines": "x"}),
            ("DELETE", "known-hosts", None),
        ):
            self.problem(await self.ask(method, f"{AT}/{path}", body, token=builder), 403)
