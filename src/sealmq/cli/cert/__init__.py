"""`sealmq cert`: keys, requests and certificates in files, as openssl and GnuTLS have them too.

It refuses to know how anything is made or parsed; each verb parses, calls and prints.
"""

import typer

from sealmq.cli.cert import make, show, sign, verify

app = typer.Typer(rich_markup_mode=None)

app.command("key", short_help="Make a private key.")(make.key)
app.command("csr", short_help="Make a certificate request for a key.")(make.csr)
app.command("sign", short_help="Sign a certificate request with a CA.")(sign.sign)
app.command("show", short_help="Show certificates, requests, keys and revocation lists.")(show.show)
app.command("verify", short_help="Verify a certificate step by step.")(verify.verify)
