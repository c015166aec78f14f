# ruff: noqa: ARG002, RUF012
"""A stand-in for the compiled data plane: it records what it is told and says what a test tells it to say."""

import json
import queue
import sys
import types

import sealmq


class EngineError(Exception):
    pass


def outlined(event):
    """A fact as `Node.poll_events` gives it."""
    sha256 = (event.get("certificate") or {}).get("sha256")
    fields = (event["event"], event.get("client_id"), event.get("device"), event.get("peer"), sha256)
    return (*(field or "" for field in fields), json.dumps(event))


class Node:
    """Every listener gets a port of its own without opening a socket; `fail` makes start or reload raise."""

    started = []
    fail = None

    def __init__(self, config):
        self.config = config
        self.reloaded = []
        self.published = []
        self.revoked = []
        self.stopped = None
        self.events = queue.Queue()
        Node.started.append(self)

    @staticmethod
    def start(config):
        if Node.fail:
            raise EngineError(*Node.fail)
        return Node(json.loads(config))

    def addresses(self):
        return [
            (item["kind"], item["address"].replace(":0", f":{40000 + index}"))
            for index, item in enumerate(self.config["listeners"])
        ]

    def poll_events(self, timeout_ms):
        try:
            text = self.events.get(timeout=timeout_ms / 1000) if timeout_ms else self.events.get_nowait()
        except queue.Empty:
            return []
        return [outlined(json.loads(text))] if text else []  # the end of the node ends the wait

    def stats(self):
        return json.dumps({"connections": 3, "messages_received": 17})

    def sessions(self):
        return json.dumps([{"client_id": "a", "connected": True}])

    def disconnect_device(self, device, reason_code, reason):
        return len(device)

    def revoke(self, revocation):
        self.revoked.append(json.loads(revocation))
        return json.dumps({"closed": 2, "micros": 1234})

    def purge_device(self, device):
        return json.dumps({"sessions": 1, "retained": 3})

    def publish(self, topic, payload, retain):
        self.published.append((topic, payload, retain))

    def reload(self, config):
        if Node.fail:
            raise EngineError(*Node.fail)
        self.reloaded.append(json.loads(config))

    def stop(self, grace_ms):
        self.stopped = grace_ms
        self.events.put("")


class Client:
    """Answers with `codes` and hands out `messages`; `made` lists the clients with their configuration."""

    made = []
    codes = b"\0"
    messages = []
    fail = None

    def __init__(self, config):
        self.config = config
        self.published = []
        self.closed = False
        Client.made.append(self)

    @staticmethod
    def open(config, previous):
        assert previous is None
        return Client(json.loads(config))

    def connack(self, timeout_ms):
        if Client.fail:
            raise EngineError(*Client.fail)
        return json.dumps({"session_present": False})

    def publish(self, topic, payload, qos, retain, properties):
        self.published.append((topic, payload, qos, retain, json.loads(properties or "{}")))
        return len(self.published) if qos else 0

    def flush(self):
        pass

    def result(self, ticket, timeout_ms):
        return Client.codes

    def subscribe(self, filters, properties):
        return 1

    def poll(self, most, timeout_ms):
        taken, Client.messages = Client.messages[:most], Client.messages[most:]
        return taken, []

    def disconnect(self, timeout_ms):
        self.closed = True
        return True


def install(monkeypatch):
    """Put a fresh stand-in where `from sealmq import _engine` finds it, for one test."""
    module = types.ModuleType("sealmq._engine")
    module.EngineError = EngineError
    module.Node = Node
    module.Client = Client
    for name, value in {"started": [], "fail": None}.items():
        monkeypatch.setattr(Node, name, value)
    for name, value in {"made": [], "codes": b"\0", "messages": [], "fail": None}.items():
        monkeypatch.setattr(Client, name, value)
    monkeypatch.setitem(sys.modules, "sealmq._engine", module)
    monkeypatch.setattr(sealmq, "_engine", module, raising=False)
    return module
