"""The page on which guests give the password of a project's previews: one file, without scripts. ``web.releases``."""

from __future__ import annotations

from html import escape
from urllib.parse import quote

#: Nothing of the page comes from elsewhere, and no other page can show it in a frame.
POLICY = (
    b"default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; frame-ancestors 'none'; "
    b"base-uri 'none'"
)

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>Preview of {project}</title>
<link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 22rem; margin: 15vh auto; padding: 0 1rem; }}
h1 {{ font-size: 1.3rem; }}
label, input, button {{ display: block; font: inherit; width: 100%; box-sizing: border-box; }}
input, button {{ margin: .4rem 0 1rem; padding: .5rem; }}
.wrong {{ border-left: .25rem solid #c33; padding-left: .6rem; }}
</style>
</head>
<body>
<main>
<h1>This preview of {project} needs a password</h1>
{remark}<form method="post" action="{action}">
<input type="hidden" name="to" value="{to}">
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required autofocus>
<button>Open the preview</button>
</form>
<p><a href="{entrance}?to={quoted}">I am of the team: sign in instead</a></p>
</main>
</body>
</html>
"""


def password_page(project: str, to: str, *, action: bytes, entrance: bytes, remark: str = "") -> bytes:
    """
    Return the page.

    :param to: the path that was asked for
    :param action: the path to which the password goes
    :param entrance: the path at which members of the team begin
    :param remark: what is wrong with what was given; "": nothing was
    """
    return _PAGE.format(
        project=escape(project),
        to=escape(to),
        quoted=escape(quote(to, safe="")),
        action=escape(action.decode()),
        entrance=escape(entrance.decode()),
        remark=f'<p class="wrong" role="alert">{escape(remark)}</p>\n' if remark else "",
    ).encode("utf-8", "replace")
