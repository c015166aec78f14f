"""When one CA follows another: the steps of replacing the root, and successors of issuing CAs, each one commit.

It knows nothing of who has to be told, of files, or of how far devices are; `readiness` measures that.

```
            new root                         old root                 devices are given   the broker shows
stage       made, bridge signed by the old   signs                    old                 old chain
publish     published                        signs                    old + new           old chain
switch      signs, new issuing CAs under it  draining                 new + old           new chain + bridge
drain       signs                            drained: nobody's trust  new                 new chain
retire      signs                            retired: key destroyed   new                 new chain
```

Nobody is cut off before `drain`: whoever trusts the old root alone verifies the new chain over the bridge, and device
certificates under the old root are accepted. Why there is one root from the first day and not two stands in
docs/decisions.
"""

from __future__ import annotations

import enum
from dataclasses import replace
from typing import TYPE_CHECKING

from sealmq.errors import NotSo
from sealmq.pki import profiles, signing
from sealmq.pki.authority import Authority, Entry, Kind, Member, Record, State
from sealmq.pki.authority.bridge import can_bridge, sign_bridge

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sealmq.pki.registry import Registry


class Step(enum.StrEnum):
    """The steps of replacing the root, in their order."""

    STAGE = "stage"
    PUBLISH = "publish"
    SWITCH = "switch"
    DRAIN = "drain"
    RETIRE = "retire"


_PROFILES = {Kind.DEVICES: profiles.DEVICE_ISSUER, Kind.SERVERS: profiles.SERVER_ISSUER}
_UNDER_WAY = (
    (State.STAGED, Step.PUBLISH),
    (State.PUBLISHED, Step.SWITCH),
    (State.DRAINING, Step.DRAIN),
    (State.DRAINED, Step.RETIRE),
)


def next_step(record: Record) -> Step:
    """The step that comes next; `STAGE` when no rotation of the root is under way."""
    for state, step in _UNDER_WAY:
        if record.of(Kind.ROOT, state):
            return step
    return Step.STAGE


def advance(authority: Authority, step: Step, *, now: datetime) -> None:
    """Take that step with the root. Raises `NotSo` with code `rotation-order` when another one comes next."""
    with authority.changing():
        due = next_step(authority.record)
        if step is not due:
            raise NotSo(
                f"root cannot take the step {step}: {_where(authority.record)}",
                mend=f"the next step is: sealmq ca rotate root --{due}",
                code="rotation-order",
            )
        _STEPS[step](authority, now)


def replace_issuer(authority: Authority, kind: Kind, *, now: datetime) -> None:
    """A new issuing CA of that kind under the same root; the old one's certificates stay accepted until they expire.

    The old issuing CA for servers is retired at once: its only certificate of ours is the broker's, which follows.
    """
    with authority.changing():
        state, member = _successor(authority.fleet, authority.record, kind, authority.signs(Kind.ROOT), now)
        authority.commit(state, member)


def look_after(authority: Authority, registry: Registry, *, grace: timedelta, now: datetime) -> list[str]:
    """What is due by itself, done; a sentence for each thing. To be called now and then.

    An issuing CA with less than a third of its life left gets a successor; one that a successor has followed is retired
    once the last certificate it issued has expired for `grace`, in which its device may still renew.
    """
    told = []
    with authority.changing():
        for kind in (Kind.DEVICES, Kind.SERVERS):
            signs = authority.signs(kind)
            if _is_due(signs, now) and signs.not_after < authority.root.certificate.not_valid_after_utc:
                replace_issuer(authority, kind, now=now)
                told.append(f"issuing CA {signs.name} has a successor, {authority.signs(kind).name}")
        spent = [
            member
            for member in authority.members_of(Kind.DEVICES, State.DRAINING)
            if not _in_use(member, registry, now - grace)
        ]
        if spent:
            authority.commit(authority.record.put(*(_in(member.entry, State.RETIRED, now) for member in spent)))
            told += [f"issuing CA {member.name} is retired: its last certificate is past use" for member in spent]
    return told


def root_is_due(authority: Authority, *, now: datetime) -> bool:
    """Whether the root has less than a third of its life left and no successor is on its way."""
    return _is_due(authority.signs(Kind.ROOT), now) and next_step(authority.record) is Step.STAGE


def _stage(authority: Authority, now: datetime) -> None:
    old = authority.signs(Kind.ROOT)
    signing.check_clock(old.issuer, now)
    number = authority.record.next_number(Kind.ROOT)
    made = signing.sign_ca(profiles.ROOT, fleet=authority.fleet, number=number, now=now)
    bridge = sign_bridge(made.certificate, by=old.issuer) if can_bridge(old.certificate) else None
    entry = Entry(Kind.ROOT, number, State.STAGED, root=number, since=now, bridged=bridge is not None)
    authority.commit(authority.record.put(entry), Member(entry, made, bridge))


def _publish(authority: Authority, now: datetime) -> None:
    (new,) = authority.record.of(Kind.ROOT, State.STAGED)
    authority.commit(authority.record.put(_in(new, State.PUBLISHED, now)).republished(now))


def _switch(authority: Authority, now: datetime) -> None:
    old = authority.signs(Kind.ROOT).entry
    (new,) = authority.members_of(Kind.ROOT, State.PUBLISHED)
    state = authority.record.put(_in(old, State.DRAINING, now), _in(new.entry, State.SIGNING, now))
    made = []
    for kind in (Kind.DEVICES, Kind.SERVERS):
        state, member = _successor(authority.fleet, state, kind, new, now)
        made.append(member)
    authority.commit(state, *made)


def _drain(authority: Authority, now: datetime) -> None:
    (old,) = authority.record.of(Kind.ROOT, State.DRAINING)
    below = [entry for entry in authority.record.of(Kind.DEVICES, State.DRAINING) if entry.root == old.number]
    gone = [_in(entry, State.RETIRED, now) for entry in below]
    authority.commit(authority.record.put(_in(old, State.DRAINED, now), *gone).republished(now))


def _retire(authority: Authority, now: datetime) -> None:
    (old,) = authority.record.of(Kind.ROOT, State.DRAINED)
    authority.commit(authority.record.put(_in(old, State.RETIRED, now)))


_STEPS = {
    Step.STAGE: _stage,
    Step.PUBLISH: _publish,
    Step.SWITCH: _switch,
    Step.DRAIN: _drain,
    Step.RETIRE: _retire,
}


def _successor(fleet: str, state: Record, kind: Kind, root: Member, now: datetime) -> tuple[Record, Member]:
    number = state.next_number(kind)
    made = signing.sign_ca(_PROFILES[kind], fleet=fleet, number=number, now=now, issuer=root.issuer)
    entry = Entry(kind, number, State.SIGNING, root=root.entry.number, since=now)
    follows = State.DRAINING if kind is Kind.DEVICES else State.RETIRED
    return state.put(_in(state.signing(kind), follows, now), entry), Member(entry, made)


def _in(entry: Entry, state: State, now: datetime) -> Entry:
    return replace(entry, state=state, since=now)


def _is_due(member: Member, now: datetime) -> bool:
    begin, end = member.certificate.not_valid_before_utc, member.not_after
    return end - now < profiles.RENEW_BELOW * (end - begin)


def _in_use(member: Member, registry: Registry, since: datetime) -> bool:
    return any(
        certificate.issuer == member.key_id and certificate.not_after > since
        for device in registry.devices()
        for certificate in device.certificates
    )


def _where(record: Record) -> str:
    for state, _step in _UNDER_WAY:
        for entry in record.of(Kind.ROOT, state):
            return f"root {entry.number} is {state}"
    return "no rotation of the root is under way"
