"""Name constraints: what the CAs of a path forbid the certificates below them to be called (RFC 5280, 4.2.1.10).

It knows nothing of the name that was asked for; every name in a certificate counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

    from sealmq.pki.paths.facts import Facts
    from sealmq.pki.paths.model import Question, Step
    from sealmq.pki.paths.steps import Place

_CHECK = "name constraints"


def name_constraints(place: Place, question: Question) -> Step | None:
    """Every certificate below keeps to the constraints of the CA at this place (section 6.1.3 (b), (c)).

    Self-issued CAs in between are exempt. A constraint on a kind of name that is not judged here fails as soon as a
    name of that kind turns up, as the RFC asks.
    """
    del question
    found = place.facts.find(x509.NameConstraints)
    if found is None or place.is_leaf:
        return None
    for position, below in enumerate(place.candidate.path[: place.position]):
        if position and below.is_self_issued:
            continue
        for kind, value in _names(below):
            if reason := _objection(kind, value, found):
                return place.failed(
                    _CHECK,
                    f"it does not allow {_shown(value)} in {below.label}: {reason}",
                    fault="name-constraint",
                    mend="have that certificate issued with names this CA may sign, or by another CA",
                )
    return place.passed(_CHECK, "all names below keep to them")


def _names(facts: Facts) -> list[tuple[type[x509.GeneralName], Any]]:
    """Alternative names and the subject, by kind; mail addresses in the subject when no alternative name is one."""
    names: list[tuple[type[x509.GeneralName], Any]] = [(type(name), name.value) for name in facts.names]
    subject = facts.subject
    if list(subject):
        names.append((x509.DirectoryName, subject))
    if not any(kind is x509.RFC822Name for kind, _ in names):
        mail = subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
        names.extend((x509.RFC822Name, str(attribute.value)) for attribute in mail)
    return names


def _objection(kind: type[x509.GeneralName], value: Any, constraints: x509.NameConstraints) -> str:  # noqa: ANN401
    """Why a name may not stand below, empty when it may."""
    excluded = [tree.value for tree in constraints.excluded_subtrees or () if type(tree) is kind]
    permitted = [tree.value for tree in constraints.permitted_subtrees or () if type(tree) is kind]
    if not excluded and not permitted:
        return ""
    lies_in = _JUDGES.get(kind)
    if lies_in is None:
        return "names of its kind are constrained, and cannot be judged here"
    if any(lies_in(value, tree) for tree in excluded):
        return "it is excluded"
    if kind is x509.DNSName and any(_may_stand_for(value, tree) for tree in excluded):
        return "its wildcard stands for names that are excluded"
    if permitted and not any(lies_in(value, tree) for tree in permitted):
        return f"permitted is {' or '.join(_shown(tree) for tree in permitted)}"
    return ""


def _dns(name: str, tree: str) -> bool:
    """A name lies in a tree when labels may be put before the tree to make it; `.tree` means at least one."""
    name, tree = name.lower().removesuffix("."), tree.lower().removesuffix(".")
    if tree.startswith("."):
        return name.endswith(tree)
    return not tree or name == tree or name.endswith(f".{tree}")


def _may_stand_for(name: str, tree: str) -> bool:
    """Whether a wildcard covers a name in the excluded tree, though it does not lie in it itself."""
    parent = name.lower().removeprefix("*.")
    return name.startswith("*.") and tree.lower().lstrip(".").endswith(f".{parent}")


def _address(name: IPv4Address | IPv6Address, tree: IPv4Network | IPv6Network) -> bool:
    return name in tree


def _uri(name: str, tree: str) -> bool:
    """The host part: `.tree` for hosts below it, else that host alone."""
    try:
        host = (urlsplit(name).hostname or "").lower()
    except ValueError:
        host = ""
    return host.endswith(tree.lower()) if tree.startswith(".") else host == tree.lower()


def _mail(name: str, tree: str) -> bool:
    """One mailbox, all of a host, or all of the hosts below `.tree`; the part before the @ is compared with case."""
    local, _, host = name.rpartition("@")
    if "@" in tree:
        wanted, _, domain = tree.rpartition("@")
        return local == wanted and host.lower() == domain.lower()
    return host.lower().endswith(tree.lower()) if tree.startswith(".") else host.lower() == tree.lower()


def _directory(name: x509.Name, tree: x509.Name) -> bool:
    """The tree's relative names are the first of the name's."""
    return _canonical(name.rdns)[: len(tree.rdns)] == _canonical(tree.rdns)


def _canonical(names: Iterable[x509.RelativeDistinguishedName]) -> Sequence[frozenset[tuple[str, str]]]:
    """Without case and spare blanks (RFC 5280, section 7.1)."""
    return [
        frozenset((one.oid.dotted_string, " ".join(str(one.value).casefold().split())) for one in name)
        for name in names
    ]


_JUDGES: dict[type[x509.GeneralName], Callable[..., bool]] = {
    x509.DNSName: _dns,
    x509.IPAddress: _address,
    x509.UniformResourceIdentifier: _uri,
    x509.RFC822Name: _mail,
    x509.DirectoryName: _directory,
}


def _shown(value: object) -> str:
    return repr(value.rfc4514_string() if isinstance(value, x509.Name) else str(value))
