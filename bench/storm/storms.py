"""Owns the storms as data: what each is about and what the clients of `c/storm.c` are told to do in it.

Refuses to know how a storm is run or measured.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Until(enum.Enum):
    """What a step waits for before the next one begins."""

    NOTHING = "nothing"
    READY = "all its clients have been up"
    DONE = "it has ended"


@dataclass(frozen=True)
class Step:
    """A run of `c/storm`: its options, and what is awaited (at most half of the storm's time)."""

    words: str
    until: Until = Until.NOTHING


@dataclass(frozen=True)
class Storm:
    """A name, what it does in a few words, and its steps."""

    name: str
    about: str
    steps: tuple[Step, ...]


# Someone who just wants to connect, five times a second, with a device and addresses of its own.
NEWCOMER = Step("--first-device 200 --spread --names fresh --after again --redial-ms 200")
DEEP = "/".join("a" * 14)
FLEET = "--clients 500 --devices 200 --spread --dialling 500"

STORMS = (
    Storm(
        "stalled-reader",
        "one subscriber stops reading; 4 publishers send it 1 KiB at QoS 0 as fast as they can",
        (
            Step("--subscribe flood --read none", Until.READY),
            Step("--clients 4 --devices 4 --publish flood --size 1024"),
        ),
    ),
    Storm(
        "stalled-reader-qos1",
        "the same at QoS 1: the publishers wait for their acknowledgements",
        (
            Step("--subscribe flood --qos 1 --read none", Until.READY),
            Step("--clients 4 --devices 4 --publish flood --qos 1 --size 1024"),
        ),
    ),
    Storm(
        "fan-out",
        "1,000 subscribers read 2 KiB/s each; 50 messages/s of 1 KiB go to all of them",
        (
            Step("--clients 1000 --devices 200 --spread --subscribe fan --qos 1 --read 2048", Until.READY),
            Step("--publish fan --qos 1 --size 1024 --rate 50"),
        ),
    ),
    Storm(
        "takeover",
        "100 connections fight for one client identifier, each back at once",
        (Step("--clients 100 --names same --resume --dialling 100 --redial-ms 0"),),
    ),
    Storm(
        "reconnect-full",
        "a fleet of 500 connects, is cut off, and is back at once, with full handshakes",
        (Step(f"{FLEET} --after drop"),),
    ),
    Storm(
        "reconnect-resumed",
        "the same with session tickets",
        (Step(f"{FLEET} --after drop --resume"),),
    ),
    Storm(
        "hash-on-everything",
        "300 clients subscribe to #; 50 publish 20 messages/s each",
        (
            Step("--clients 300 --devices 100 --spread --subscribe #", Until.READY),
            Step("--clients 50 --devices 50 --spread --publish tele/%n --rate 20"),
        ),
    ),
    Storm(
        "wildcard-bomb",
        "32 clients hold the 2^15 filters of a and + in 15 levels; 4 publish to a/a/…/N, N ever new: 2^14 match each",
        (
            Step("--clients 32 --devices 32 --bomb 1000x15", Until.READY),
            Step(f"--clients 4 --devices 4 --publish {DEEP}/%i"),
        ),
    ),
    Storm(
        "retained",
        "1,000,000 retained topics from 4 publishers, then a reader of #",
        (
            Step("--clients 4 --devices 4 --publish r/%n/%i --retain --total 250000 --size 16", Until.DONE),
            Step("--subscribe r/#"),
        ),
    ),
    Storm(
        "half-open-tcp",
        "3,000 connections from as many addresses say nothing",
        (Step("--clients 3000 --spread --hold tcp --dialling 3000"),),
    ),
    Storm(
        "half-open-half-hello",
        "3,000 connections send half a ClientHello and wait",
        (Step("--clients 3000 --spread --hold half-hello --dialling 3000"),),
    ),
    Storm(
        "half-open-hello",
        "3,000 connections send a ClientHello and never answer the ServerHello",
        (Step("--clients 3000 --spread --hold hello --dialling 3000 --devices 200"),),
    ),
    Storm(
        "trickle-wire",
        "300 clients send every TLS byte by itself, each millisecond one, from the ClientHello on",
        (Step("--clients 300 --devices 200 --spread --dialling 300 --trickle wire --publish storm/%n"),),
    ),
    Storm(
        "trickle-records",
        "300 clients send every byte of MQTT in a TLS record of its own",
        (Step("--clients 300 --devices 200 --spread --trickle record --publish storm/%n"),),
    ),
    Storm(
        "absent-sessions",
        "500 kept sessions without their clients; 4 publishers fill their queues with 1 KiB at QoS 1",
        (
            Step("--clients 500 --devices 200 --spread --kept --subscribe absent --qos 1 --after leave", Until.DONE),
            Step("--clients 4 --devices 4 --publish absent --qos 1 --size 1024"),
        ),
    ),
    Storm(
        "huge-wills",
        "400 clients with a will of 490 KB, most of it user properties, and as much in CONNECT; cut off at the end",
        (Step("--clients 400 --devices 200 --spread --will 65000 --connect-properties 4000"),),
    ),
    Storm(
        "huge-properties",
        "100 clients publish retained messages with 9,000 user properties each (1 MB), as fast as they can",
        (Step("--clients 100 --devices 100 --spread --publish p/%n/%i --retain --user-properties 9000 --size 16"),),
    ),
    Storm(
        "sessions-of-one",
        "one device makes kept sessions under ever new client identifiers, as fast as it can",
        (Step("--clients 50 --kept --names fresh --resume --subscribe s/# --qos 1 --after again --redial-ms 0"),),
    ),
    Storm(
        "one-address",
        "one address dials without end: full handshake, CONNECT, gone",
        (Step("--clients 200 --dialling 200 --after drop --redial-ms 0"),),
    ),
)
