"""Users with passwords, as mosquitto's clients know them: added and removed while the broker runs.

Knows nothing of how passwords are kept.
"""

import pytest

from programs import finished

RULES = """
[[rule]]
name = "people"
who = "user:*"
actions = ["publish", "subscribe"]
topics = ["users/{id}/#"]
"""
PASSWORD = "correct horse battery"


@pytest.fixture
def broker(up, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rules.toml").write_text(RULES)
    (tmp_path / "words").write_text(PASSWORD + "\n")
    (tmp_path / "words").chmod(0o600)
    running = up()
    running.sealmq("ca", "export", "--out", tmp_path / "ca.pem")
    return running


def publish(broker, tmp_path, *, password=PASSWORD, topic="users/anna/x"):
    options = [
        "-h",
        "localhost",
        "-p",
        broker.ready["mqtts"],
        "--cafile",
        tmp_path / "ca.pem",
        "-V",
        "5",
        "-i",
        "user:anna",
    ]
    return finished("mosquitto_pub", *options, "-u", "anna", "-P", password, "-t", topic, "-m", "x", "-q", "1")


def test_a_user_comes_and_goes_while_the_broker_runs(broker, tmp_path):
    assert publish(broker, tmp_path).returncode != 0
    assert broker.sealmq("user", "add", "anna", "--password-file", tmp_path / "words").returncode == 0
    done = publish(broker, tmp_path)
    assert done.returncode == 0, done.stderr
    assert publish(broker, tmp_path, password="wrong horse battery").returncode != 0
    assert "ot authorized" in publish(broker, tmp_path, topic="devices/anna/x").stderr
    assert broker.sealmq("user", "remove", "anna").returncode == 0
    assert publish(broker, tmp_path).returncode != 0


def test_without_users_a_client_without_certificate_is_refused_in_the_handshake(broker, tmp_path):
    done = publish(broker, tmp_path)
    assert done.returncode != 0
    broker.expect("certificate")
