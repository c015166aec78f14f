"""`sealmq device`: the devices of the fleet, from their making to their end; one file per kind of verb.

It refuses to know how certificates are made; its verbs parse, call and print.
"""

import typer

from sealmq.cli.device import add, approvals, end, renew, show, token

app = typer.Typer(rich_markup_mode=None)
app.command("add", short_help="Make a device: its files, or a token for it to enrol with.")(add.add)
app.command("token", short_help="Make a new enrolment token for a device.")(token.token)
app.command("list")(show.list_)
app.command("show")(show.show)
app.command("pending", short_help="List the devices that wait for an approval.")(approvals.pending)
app.command("approve", short_help="Let a waiting device in.")(approvals.approve)
app.command("deny", short_help="Turn a waiting device away.")(approvals.deny)
app.command("renew", short_help="Give a device whose files lie here a new key and certificate.")(renew.renew)
app.command("revoke", short_help="Throw a device out, at once.")(end.revoke)
app.command("retire", short_help="End a device for good; its id is not given out again.")(end.retire)
