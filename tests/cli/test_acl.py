"""`sealmq acl explain`: which rule decides, by the rules on disk and the groups of the registry."""

import json

import pytest

from sealmq.cli.app import run

RULES = """
[[rule]]
name = "no secrets"
effect = "deny"
actions = ["subscribe"]
topics = ["press/secret/#"]

[[rule]]
name = "groups"
who = "group:press*"
actions = ["publish", "subscribe"]
topics = ["{group}/#"]

[[rule]]
name = "own"
actions = ["publish", "subscribe"]
topics = ["devices/{id}/#"]

[[rule]]
name = "people"
who = "user:*"
actions = ["subscribe"]
topics = ["devices/#"]
"""


@pytest.fixture
def sealmq(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*args):
        status = run([*map(str, args)])
        return (status, *capsys.readouterr())

    assert call("device", "add", "press-1", "--group", "press")[0] == 0
    assert call("device", "add", "lamp-1")[0] == 0
    (tmp_path / "words").write_text("correct horse battery\n")
    (tmp_path / "words").chmod(0o600)
    assert call("user", "add", "anna", "--password-file", "words")[0] == 0
    (tmp_path / "sealmq-data" / "rules.toml").write_text(RULES)
    return call


@pytest.mark.parametrize(
    ("who", "action", "topic", "allowed", "rule"),
    [
        ("press-1", "publish", "press/state", True, "groups"),
        ("press-1", "subscribe", "press/secret/x", False, "no secrets"),
        ("press-1", "subscribe", "press/#", False, "no secrets"),  # a part of it is denied
        ("press-1", "publish", "press/secret/x", True, "groups"),
        ("lamp-1", "publish", "press/state", False, None),
        ("lamp-1", "publish", "devices/lamp-1/state", True, "own"),
        ("lamp-1", "publish", "devices/press-1/state", False, None),
        ("user:anna", "subscribe", "devices/#", True, "people"),
        ("user:anna", "publish", "devices/anna/x", False, None),
        ("anonymous", "publish", "devices/anonymous/x", False, None),
    ],
)
def test_the_rule_that_decides(sealmq, who, action, topic, allowed, rule):
    status, out, err = sealmq("acl", "explain", who, action, topic, "--json")
    found = json.loads(out)
    assert (found["allowed"], found["rule"]) == (allowed, rule)
    assert found["why"]
    assert status == (0 if allowed else 1)
    assert err.startswith("error: ") is not allowed
    words = sealmq("acl", "explain", who, action, topic)[1]
    assert f"{who} {'may' if allowed else 'may NOT'} {action} {topic}" in words
    assert (rule or "none") in words


def test_groups_come_from_the_registry(sealmq):
    assert json.loads(sealmq("acl", "explain", "press-1", "publish", "a", "--json")[1])["groups"] == ["press"]


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (("nobody", "publish", "a"), 1, "nobody does not exist"),
        (("user:bert", "publish", "a"), 1, "user:bert does not exist"),
        (("lamp-1", "read", "a"), 2, "neither publish nor subscribe"),
        (("lamp-1", "publish", "a/#"), 2, "topic name"),
        (("lamp-1", "subscribe", "a/#/b"), 2, "topic filter"),
    ],
)
def test_what_cannot_be_answered(sealmq, args, status, said):
    found, out, err = sealmq("acl", "explain", *args)
    assert (found, out) == (status, "")
    assert said in err


def test_a_rule_file_that_is_wrong(sealmq, tmp_path):
    (tmp_path / "sealmq-data" / "rules.toml").write_text("[[rule]]\nname = 'x'\n")
    status, _, err = sealmq("acl", "explain", "lamp-1", "publish", "a")
    assert status == 2
    assert "rules.toml" in err


@pytest.mark.parametrize("args", [("\udcff", "publish", "a"), ("lamp-1", "publish", "\udcff")])
def test_an_argument_that_is_no_text_is_wrong_usage(sealmq, args):
    status, out, err = sealmq("acl", "explain", *args)
    assert (status, out) == (2, "")
    assert "not UTF-8" in err
