"""Who is told that something ends, and when: on a virtual clock, without a broker. Knows nothing of threads but one."""

import http.server
import json
import ssl
import threading
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from certchains import Plan as Ca
from certchains import crl, make, pem
from sealmq.broker import metrics
from sealmq.broker.expiry import ExpiryWatch, Judge, files_that_end
from sealmq.broker.webhook import Webhook
from sealmq.config.settings import load
from sealmq.datafolder import DataFolder
from sealmq.pki import expiry
from sealmq.pki.authority import Authority
from sealmq.pki.expiry import Expiring, Inventory, Kind
from sealmq.pki.operations import OPERATIONS
from sealmq.pki.registry import Registry
from sealmq.testing import ThrowawayCA

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
THRESHOLDS = [30 * DAY, 7 * DAY, DAY]


def one(kind=Kind.SERVER, name="broker", *, life=365, left=100.0):
    end = NOW + left * DAY
    return Expiring(kind, name, end - life * DAY, end, "" if kind is Kind.DEVICE else "file.pem")


@pytest.mark.parametrize(
    ("life", "expected"),
    [
        (365, [30 * DAY, 7 * DAY, DAY]),
        (30, [7 * DAY, DAY]),  # 30 days left is no news for what lasts 30 days
        (3, [DAY]),
        (1, [timedelta(hours=4)]),
    ],
)
def test_a_threshold_says_nothing_before_a_renewal_can_have_failed(life, expected):
    assert one(life=life).due_below(THRESHOLDS) == expected


def states(judge, *found, days=0.0):
    return [(notice.topic, notice.state) for notice in judge.take(found, THRESHOLDS, now=NOW + days * DAY)]


def test_each_threshold_is_told_once_and_then_the_renewal():
    judge, server, topic = Judge(), one(left=40), "$sealmq/expiry/server/broker"
    assert states(judge, server) == []
    assert states(judge, server, days=9.9) == []
    assert states(judge, server, days=10) == [(topic, "30d")]
    assert states(judge, server, days=20) == []
    assert states(judge, server, days=33) == [(topic, "7d")]
    assert states(judge, server, days=39) == [(topic, "1d")]
    assert states(judge, server, days=40) == [(topic, "expired")]
    assert states(judge, server, days=50) == []
    assert states(judge, one(left=300), days=50) == [(topic, "renewed")]
    assert states(judge, one(left=300), days=51) == []


def test_after_a_long_sleep_only_the_last_threshold_is_told():
    assert states(Judge(), one(left=0.5)) == [("$sealmq/expiry/server/broker", "1d")]


def test_two_of_one_name_are_one_topic_and_the_shorter_counts():
    assert states(Judge(), one(left=300), one(left=5)) == [("$sealmq/expiry/server/broker", "7d")]


def test_devices_are_told_of_together():
    judge = Judge()
    fleet = [one(Kind.DEVICE, f"sensor-{number}", life=30, left=6 + number) for number in range(50)]
    (notice,) = judge.take(fleet, THRESHOLDS, now=NOW)
    assert (notice.topic, notice.state) == ("$sealmq/expiry/devices", "7d")
    assert notice.fields["count"] == 2
    assert notice.fields["devices"] == ["sensor-0", "sensor-1"]
    assert states(judge, *fleet) == []
    (notice,) = judge.take(fleet, THRESHOLDS, now=NOW + 40 * DAY)
    assert (notice.state, notice.fields["expired"]) == ("expired", 35)
    assert len(notice.fields["devices"]) == 20
    assert notice.summary == (
        "42 device certificates are short of time, 35 of them over; "
        "the first that of sensor-0 ended on 2026-06-07 00:00 UTC"
    )
    assert states(judge, days=41) == [("$sealmq/expiry/devices", "renewed")]


def test_names_cannot_add_levels_or_wildcards_to_a_topic():
    (notice,) = Judge().take([one(Kind.CA, "O=a/b,CN=#+\n", left=1)], THRESHOLDS, now=NOW)
    assert notice.topic == "$sealmq/expiry/ca/O-a-b-CN"


class Publisher:
    def __init__(self):
        self.messages = []

    def publish(self, topic, payload, *, retain):
        self.messages.append((topic, payload, retain))


def watch(tmp_path, clock, found, **more):
    (tmp_path / "sealmq.toml").write_text('[expiry]\nwebhook = "https://hook.example/x?secret"\n')
    told = {"publisher": Publisher(), "warned": [], "posted": []}
    made = ExpiryWatch(
        lambda: Inventory(tuple(found), more.get("unreadable", ())),
        settings=lambda: load(tmp_path / "sealmq.toml", environ={}),
        publisher=lambda: told["publisher"],
        warn=lambda event, **fields: told["warned"].append((event, fields)),
        post=lambda url, document, ca: told["posted"].append((url, document, ca)),
        now=lambda: clock[0],
    )
    return made, told


def test_log_mqtt_and_webhook_say_the_same_and_the_retained_message_goes_again(tmp_path):
    clock, found = [NOW], [one(left=5)]
    watching, told = watch(tmp_path, clock, found)
    watching.look()
    watching.look()
    ((topic, payload, retain),) = told["publisher"].messages
    document = json.loads(payload)
    assert (topic, retain) == ("$sealmq/expiry/server/broker", True)
    assert (document["state"], document["kind"], document["name"]) == ("7d", "server", "broker")
    assert document["not_after"] == "2026-06-06T00:00:00Z"
    assert document["seconds_left"] == 5 * 86_400
    assert told["posted"] == [("https://hook.example/x?secret", document, None)]
    ((event, fields),) = told["warned"]
    assert (event, fields["summary"]) == ("expiry", document["summary"])
    assert fields["mend"]
    found[:] = [one(left=200)]
    watching.look()
    assert told["publisher"].messages[1:] == [(topic, b"", True)]
    assert told["posted"][-1][1]["state"] == "renewed"
    assert len(told["warned"]) == 1


def test_a_file_that_cannot_be_read_is_told_of(tmp_path):
    watching, told = watch(tmp_path, [NOW], [], unreadable=("/x.pem",))
    watching.look()
    assert "/x.pem cannot be read" in told["warned"][0][1]["summary"]


@pytest.fixture
def data(tmp_path):
    """A data folder with two devices, one of them revoked, and a foreign CA and list named in its settings."""
    folder = DataFolder.create_or_open(tmp_path / "data")
    authority = Authority.open_or_create(folder)
    authority.ensure_server_certificate()
    foreign = make(Ca("their ca", number=70))
    (folder.path / "their.pem").write_bytes(pem(foreign.root))
    (folder.path / "their.crl").write_bytes(pem(crl(foreign.root, foreign.keys[0])))
    (folder.path / "sealmq.toml").write_text('[tls]\nclient_ca = "their.pem"\ncrl = "their.crl"\n')
    with Registry.open(folder) as registry:
        for name in ("sensor-1", "sensor-2"):
            OPERATIONS["device-add"](folder, authority, registry, id=name)
        OPERATIONS["device-revoke"](folder, authority, registry, id="sensor-2")
        yield folder, authority, registry


def test_everything_is_found_and_what_is_revoked_is_not(data):
    folder, authority, registry = data
    settings = load(folder.config_path, environ={})
    named = files_that_end(settings, folder)
    found = expiry.inventory(folder, authority, registry, files=[*named, (Kind.SERVER, folder.path / "gone.pem")])
    fleet = folder.fleet
    assert {(each.kind, each.name) for each in found.found} == {
        (Kind.CA, f"{fleet} Root 1"),
        (Kind.CA, f"{fleet} Devices 1"),
        (Kind.CA, f"{fleet} Servers 1"),
        (Kind.SERVER, f"{fleet} broker"),
        (Kind.CHAIN, f"{fleet} Servers 1"),
        (Kind.CLIENT_CA, "their ca"),
        (Kind.CRL, "their ca"),
        (Kind.CRL, f"{fleet} Devices 1"),
        (Kind.DEVICE, "sensor-1"),
    }
    assert [each.end for each in found.found] == sorted(each.end for each in found.found)
    (folder.path / "acme").mkdir()
    (folder.path / "acme" / "public.pem").write_bytes(ThrowawayCA().issue_server("broker.example").cert_pem)
    acme = load(folder.config_path, environ={}, overrides={"tls.acme.names": ["broker.example"]})
    assert (Kind.SERVER, folder.path / "acme" / "public.pem") in files_that_end(acme, folder)
    own = load(folder.config_path, environ={}, overrides={"tls.certificate": "/gone.pem", "tls.key": "/gone.key"})
    assert [str(path) for kind, path in files_that_end(own, folder) if kind is Kind.SERVER] == ["/gone.pem"]
    assert found.unreadable == (str(folder.path / "gone.pem"),)


def test_metrics_are_bounded_by_the_kinds_and_not_by_the_fleet():
    fleet = [one(Kind.DEVICE, f"d{number}", left=number - 2) for number in range(100)]
    text = metrics.exposition(metrics.ExpiryCollector(lambda: [one(), *fleet], now=lambda: NOW)).decode()
    found = {family.name: family.samples for family in text_string_to_metric_families(text)}
    (server,) = found["sealmq_certificate_not_after_seconds"]
    assert server.labels == {"kind": "server", "name": "broker"}
    assert server.value == one().end.timestamp()
    counts = {sample.labels["left"]: sample.value for sample in found["sealmq_device_certificates"]}
    assert counts == {"expired": 3, "1d": 1, "7d": 6, "30d": 23, "more": 67}
    (nearest,) = found["sealmq_device_certificate_nearest_not_after_seconds"]
    assert nearest.value == (NOW + DAY).timestamp()


class Receiver(http.server.BaseHTTPRequestHandler):
    """Answers with the statuses it was given, one after the other, and keeps what it was sent."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, self.headers["Content-Type"], json.loads(body)))
        self.send_response(self.server.statuses.pop(0))
        self.send_header("Location", "https://127.0.0.1:1/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.server.arrived.release()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver(tmp_path):
    ca = ThrowawayCA()
    files = ca.issue_server("localhost", "127.0.0.1").write(tmp_path / "server")
    (tmp_path / "ca.pem").write_bytes(ca.root_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    server = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.got, server.statuses, server.arrived = [], [], threading.Semaphore(0)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def hook(pauses=(0.01, 0.01, 0.01)):
    warned, said = [], threading.Event()

    def warn(event, **fields):
        warned.append((event, fields["summary"]))
        said.set()

    return Webhook(warn=warn, pauses=pauses), warned, said


def test_a_document_is_posted_again_until_it_is_taken(receiver, tmp_path):
    receiver.statuses = [500, 503, 204]
    webhook, warned, _ = hook()
    webhook.post(f"https://localhost:{receiver.server_port}/hook?key=1", {"a": 1}, tmp_path / "ca.pem")
    for _ in range(3):
        assert receiver.arrived.acquire(timeout=10)
    webhook.stop()
    assert receiver.got == [("/hook?key=1", "application/json", {"a": 1})] * 3
    assert warned == []


def test_after_the_last_try_it_is_given_up_and_the_next_one_has_its_turn(receiver, tmp_path):
    receiver.statuses = [500, 302, 204]
    webhook, warned, said = hook(pauses=(0.01,))
    url = f"https://localhost:{receiver.server_port}/hook?key=secret"
    webhook.post(url, {"a": 1}, tmp_path / "ca.pem")
    webhook.post(url, {"a": 2}, tmp_path / "ca.pem")
    assert said.wait(10)
    for _ in range(3):
        assert receiver.arrived.acquire(timeout=10)
    webhook.stop()
    assert [document for _, _, document in receiver.got] == [{"a": 1}, {"a": 1}, {"a": 2}]
    assert warned == [("webhook", "webhook at localhost did not take a document: status 302")]  # nothing is followed


def test_a_place_that_cannot_be_verified_is_told_nothing(receiver, tmp_path):
    (tmp_path / "other.pem").write_bytes(ThrowawayCA().root_pem)
    webhook, warned, said = hook(pauses=())
    webhook.post(f"https://localhost:{receiver.server_port}/", {"a": 1}, tmp_path / "other.pem")
    assert said.wait(10)
    webhook.stop()
    assert receiver.got == []
    assert "its certificate is refused" in warned[0][1]


def test_stop_does_not_wait_for_a_pause():
    webhook, warned, _ = hook(pauses=(3600.0,))
    for number in range(200):  # nobody listens on that port, and more than fits into the line
        webhook.post("https://127.0.0.1:1/", {"a": number}, None)
    webhook.stop()
    webhook.stop()
    assert ("webhook", "100 documents wait for 127.0.0.1; this one is left out") in warned


@pytest.mark.parametrize("text", ["http://hook.example/", "hook.example", "https://", "https://a b/", "ftp://x/"])
def test_a_webhook_is_an_https_url(tmp_path, text):
    from sealmq.errors import ConfigError

    (tmp_path / "sealmq.toml").write_text(f'[expiry]\nwebhook = "{text}"\n')
    with pytest.raises(ConfigError, match=r"expiry\.webhook"):
        load(tmp_path / "sealmq.toml", environ={})
    (tmp_path / "sealmq.toml").write_text('[expiry]\nthresholds = ["3 weeks"]\n')
    with pytest.raises(ConfigError, match="length of time"):
        load(tmp_path / "sealmq.toml", environ={})
