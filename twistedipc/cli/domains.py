"""`twistedipc project domain …`: the host names at which a project's release is. ``cli``; used by ``projects``."""

from __future__ import annotations

import click

from twistedipc.builds import domains
from twistedipc.builds.names import BadValue
from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.output import json_option, local_time, note, print_json, print_table
from twistedipc.web.api.schemas import Domain, Domains, NewDomain


def _checked(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Return a domain as the API takes it: in an address there is nothing but ASCII."""
    try:
        return domains.domain(value)
    except BadValue as error:
        raise click.BadParameter(str(error), context, parameter) from error


_domain = click.argument("domain_name", metavar="DOMAIN", callback=_checked)


@click.group("domain")
def domain() -> None:
    """The host names at which a project's release is, beside those that the platform gives."""


@domain.command("add")
@with_client
@click.argument("name")
@_domain
@click.option("--main", is_flag=True, help="People know the site by it, in the place of the main domain before.")
@click.option("--redirect", is_flag=True, help="Lead from it to the main domain, with path and query.")
@json_option
def add(client: Client, name: str, domain_name: str, main: bool, redirect: bool, as_json: bool) -> None:
    """Serve the release of the project NAME at DOMAIN too, or change how the project uses it.

    The first domain is the main one: builds are told it, and so are people. Set a DNS record for DOMAIN that leads
    here afterwards, so that no one else can add it in between.
    """
    answer = client.put(path("projects", name, "domains", domain_name), NewDomain(main=main, redirect=redirect))
    if as_json:
        print_json(answer)
        return
    made = answer.decode(Domain)
    if made.redirect:
        note(f"{made.url} leads to the main domain of {name}")
    else:
        note(f"the release of {name} is at {made.url}{', its main domain' if made.main else ''}")


@domain.command("list")
@with_client
@click.argument("name")
@json_option
def list_all(client: Client, name: str, as_json: bool) -> None:
    """List the domains of the project NAME, the main one first."""
    answer = client.get(path("projects", name, "domains"))
    if as_json:
        print_json(answer)
        return
    print_table(
        ("DOMAIN", "USE", "ADDRESS", "CERTIFICATE", "DETAIL"),
        [
            (
                each.readable,
                "main" if each.main else "redirect" if each.redirect else "served",
                each.url,
                f"until {local_time(each.certificate_ends)}" if each.certificate_ends else "",
                each.reason,
            )
            for each in answer.decode(Domains).domains
        ],
        empty=f"{name} has no domain of its own; `twistedipc project domain add {name} www.example.org` adds one",
    )


@domain.command("remove")
@with_client
@click.argument("name")
@_domain
def remove(client: Client, name: str, domain_name: str) -> None:
    """Serve the project NAME at DOMAIN no longer. Remove its DNS record first: any project can get the name then."""
    client.delete(path("projects", name, "domains", domain_name))
    note(f"{name} isn't served at {domain_name} any more")
