"""What `twistedipc doctor` finds in the services' configurations."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from twistedipc.cli.doctor import doctor, look_at
from twistedipc.ipc import make_named_key, write_key, write_named_key
from twistedipc.storage.secrets import SecretBox

BUILDER = 'data = "b"\nname = "one"\n'
APISERVER = 'data = "a"\n'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (BUILDER + '[link]\nlisten = ["unix:s"]\nkey = "own.key"\n', []),
        (BUILDER + '[link]\nlisten = ["unix:s"]\nkey = "shared.key"\n', ["it is the shared key"]),
        (BUILDER + '[link]\nlisten = ["unix:s"]\n', ["no key of its own"]),
        (BUILDER + '[link]\nlisten = ["unix:s"]\nkey = "open.key"\n', ["can be used by others"]),
        (BUILDER + '[link]\nlisten = ["unix:s"]\nkey = "none.key"\n', ["can't be read"]),
        (
            'apiserver_url = "http://ci.example"\n' + BUILDER + '[link]\nlisten = ["unix:s"]\nkey = "own.key"\n',
            ["uploaded by http"],
        ),
        (
            "allow_plain_http = true\n" + BUILDER + '[link]\nlisten = ["unix:s"]\nkey = "own.key"\n',
            ["may be uploaded by http"],
        ),
        (BUILDER + "slots = 'x'\n[link]\nlisten = [\"unix:s\"]\n", ["slots: expected a whole number"]),
        (APISERVER + '[link]\ndial = ["unix:s"]\n', []),
        (APISERVER + '[http]\n[link]\ndial = ["unix:s"]\nkey = "shared.key"\n', ["taken for this release only"]),
        (
            APISERVER + '[http]\npublic_url = "http://ci.example"\n[link]\ndial = ["tls:b.example:7000"]\n',
            ["by http, and decline builds"],
        ),
        (APISERVER + '[http]\nlisten = 5\n[link]\ndial = ["unix:s"]\n', ["http.listen: expected a string"]),
    ],
)
def test_what_is_found(tmp_path: Path, text: str, found: list[str]) -> None:
    write_named_key(tmp_path / "own.key", make_named_key())
    write_key(tmp_path / "shared.key")
    write_key(tmp_path / "open.key")
    (tmp_path / "open.key").chmod(0o644)
    file = tmp_path / ("builder.toml" if BUILDER in text else "apiserver.toml")
    file.write_text(text)
    said = look_at(file)
    assert len(said) == len(found), said
    for sentence, part in zip(said, found, strict=True):
        assert part in sentence
    result = CliRunner().invoke(doctor, [str(file)])
    if found:
        assert result.exit_code == 1
        assert f"{file}: {said[0]}" in result.output
    else:
        assert (result.exit_code, result.output) == (0, "nothing is wrong that can be seen from here\n")


def test_a_key_that_is_being_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "service.toml").write_text(APISERVER + '[http]\n[link]\ndial = ["unix:s"]\n')
    assert look_at(tmp_path / "service.toml") == []
    SecretBox(tmp_path / "a" / "secret.key").begin_replacing()
    (said,) = look_at(tmp_path / "service.toml")
    assert "holds an old key too" in said
    (tmp_path / "a" / "secret.key").chmod(0o644)
    (said,) = look_at(tmp_path / "service.toml")
    assert "can be read by others" in said
