"""`sealmq cert key` and `sealmq cert csr`: a private key, and a request for a certificate of it.

It refuses to know how they are made.
"""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from sealmq.cli import output
from sealmq.cli.cert.files import PassphraseFile, passphrase_in, target
from sealmq.errors import UsageError

_TYPES = ("p256", "p384", "rsa", "ed25519")


def key(
    ctx: typer.Context,
    type_: Annotated[
        str, typer.Option("--type", metavar="TYPE", help="p256, p384, rsa or ed25519 (not for CAs).")
    ] = "p256",
    bits: Annotated[
        int | None, typer.Option("--bits", metavar="N", help="Size of an RSA key.  [default: 3072]", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write it.")] = Path("key.pem"),
    passphrase_file: PassphraseFile = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there: a key that is lost is lost.")] = False,
) -> None:
    """Make a private key: PKCS #8 in PEM form, mode 0600, under a passphrase when one is given."""
    if type_ not in _TYPES:
        raise UsageError(f"key type {type_!r} does not exist", mend=f"use one of: {', '.join(_TYPES)}")
    path = target(out, force=force)
    passphrase = passphrase_in(passphrase_file)
    from sealmq.pki.describe import describe_key
    from sealmq.pki.fingerprints import public_key_sha256
    from sealmq.pki.keys import KeyType, generate, pkcs8_pem
    from sealmq.secretfiles import write_private

    made = generate(KeyType(type_), bits=bits)
    write_private(path, pkcs8_pem(made, passphrase=passphrase))
    public = made.public_key()
    found = {"file": str(path), "key": describe_key(public), "is_encrypted": passphrase is not None}
    if ctx.obj.json:
        output.as_json(found | {"spki_sha256": public_key_sha256(public)})
        return
    protected = "under the passphrase" if passphrase is not None else "without a passphrase"
    print(f"{path} written: {found['key']} private key, {protected}, mode 0600")
    print(f"\nnext, ask for a certificate of it:\n\n  {_next_csr(path, passphrase_file)}")


def csr(
    ctx: typer.Context,
    key_file: Annotated[Path, typer.Option("--key", metavar="FILE", help="The private key to be certified.")],
    subject: Annotated[
        str, typer.Option("--subject", metavar="NAME", help="CN=sensor-1,O=Example or /O=Example/CN=sensor-1.")
    ] = "",
    san: Annotated[
        list[str] | None,
        typer.Option("--san", metavar="NAME", help="DNS:…, IP:…, URI:…, email:… or a plain host; may repeat."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write it to this file instead of standard output.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Make a certificate request (PKCS #10): the public key, the wished names, and the proof that the key is there."""
    if not subject and not san:
        raise UsageError(
            "request would have no name", mend="give --subject CN=sensor-1, or --san DNS:broker.example, or both"
        )
    path = target(out, force=force) if out is not None else None
    from sealmq.pki import certfiles, keys, requests
    from sealmq.pki.describe import describe_name
    from sealmq.pki.x509names import parse_alternative_name, parse_subject

    names = [parse_alternative_name(name) for name in san or []]
    name = parse_subject(subject)
    private = keys.load(certfiles.read(key_file), path=key_file, passphrase=passphrase_in(passphrase_file))
    pem = requests.build(private, subject=name, names=names)
    if path is not None:
        from sealmq.secretfiles import write_public

        write_public(path, pem)
    if ctx.obj.json:
        described = {"subject": name.rfc4514_string(), "names": [describe_name(one) for one in names]}
        output.as_json({"file": str(path) if path else None, "pem": pem.decode("ascii"), **described})
    elif path is not None:
        print(f"{path} written; who signs it needs this file alone, the key stays where it is")
    else:
        print(pem.decode("ascii"), end="")


def _next_csr(path: Path, passphrase_file: Path | None) -> str:
    more = ["--passphrase-file", str(passphrase_file)] if passphrase_file else []
    words = ["cert", "csr", "--key", str(path), *more, "--subject", "CN=NAME", "--out", "request.pem"]
    return f"{output.program()} {shlex.join(words)}"
