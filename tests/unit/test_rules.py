"""The rule file: what it expands to, and every way to get it wrong."""

import pytest

from sealmq.config.rules import DEFAULT_RULES, check_filter, for_engine, load_rules
from sealmq.errors import ConfigError


def rules(tmp_path, text):
    (tmp_path / "rules.toml").write_text(text)
    return load_rules(tmp_path / "rules.toml")


def test_the_built_in_rules_keep_a_device_to_its_own_and_shared_topics():
    assert load_rules(None) == DEFAULT_RULES
    assert [
        (entry["filter"], entry["publish"], entry["subscribe"], entry["effect"]) for entry in for_engine(DEFAULT_RULES)
    ] == [
        ("devices/{id}/#", True, True, "allow"),
        ("shared/#", True, True, "allow"),
    ]


def test_a_file_expands_in_order_one_entry_per_filter(tmp_path):
    found = rules(
        tmp_path,
        """
        [[rule]]
        name = "no secrets"
        effect = "deny"
        actions = ["subscribe"]
        topics = ["secret/#", "+/secret"]

        [[rule]]
        name = "gateways"
        who = "gateway-*"
        actions = ["publish"]
        topics = ["site/{id}/{client}"]
        """,
    )
    assert for_engine(found) == [
        {"name": "no secrets", "effect": "deny", "who": "*", "publish": False, "subscribe": True, "filter": "secret/#"},
        {"name": "no secrets", "effect": "deny", "who": "*", "publish": False, "subscribe": True, "filter": "+/secret"},
        {
            "name": "gateways",
            "effect": "allow",
            "who": "gateway-*",
            "publish": True,
            "subscribe": False,
            "filter": "site/{id}/{client}",
        },
    ]


def test_groups_and_users_are_named_with_a_prefix(tmp_path):
    found = rules(
        tmp_path,
        """
        [[rule]]
        name = "groups"
        who = "group:press-*"
        actions = ["publish"]
        topics = ["groups/{group}/{id}"]

        [[rule]]
        name = "people"
        who = "user:anna@example.org"
        actions = ["subscribe"]
        topics = ["users/{id}/#"]
        """,
    )
    assert [(entry["who"], entry["filter"]) for entry in for_engine(found)] == [
        ("group:press-*", "groups/{group}/{id}"),
        ("user:anna@example.org", "users/{id}/#"),
    ]


def test_an_empty_file_allows_nothing(tmp_path):
    assert rules(tmp_path, "") == ()


GOOD = 'name = "r"\nactions = ["publish"]\ntopics = ["a"]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[rules]]\n" + GOOD, "unknown key 'rules'"),
        ("[rule]\n" + GOOD, "one table where a list"),
        ('[[rule]]\nactions = ["publish"]\ntopics = ["a"]\n', "rule 1 in"),
        ("[[rule]]\n" + GOOD + 'topic = ["b"]\n', "unknown key 'topic'"),
        ("[[rule]]\n" + GOOD + 'effect = "permit"\n', "effect of rule 'r'"),
        ("[[rule]]\n" + GOOD + 'who = "a/b"\n', "who of rule 'r'"),
        ("[[rule]]\n" + GOOD + 'who = "group:"\n', "who of rule 'r'"),
        ("[[rule]]\n" + GOOD + 'who = "role:x"\n', "who of rule 'r'"),
        ("[[rule]]\n" + GOOD + 'who = ""\n', "who of rule 'r'"),
        ('[[rule]]\nname = "r"\ntopics = ["a"]\n', "actions of rule 'r' in"),
        ('[[rule]]\nname = "r"\nactions = []\ntopics = ["a"]\n', "is empty"),
        ('[[rule]]\nname = "r"\nactions = "publish"\ntopics = ["a"]\n', "is one string"),
        ('[[rule]]\nname = "r"\nactions = ["read"]\ntopics = ["a"]\n', "has 'read'"),
        ('[[rule]]\nname = "r"\nactions = ["publish"]\ntopics = [1]\n', "not a list of strings"),
        ('[[rule]]\nname = "r"\nactions = ["publish"]\ntopics = ["a/#/b"]\n', "topic filter 'a/#/b' of rule 'r'"),
        (
            '[[rule]]\nname = "r"\nwho = "anonymous"\nactions = ["publish"]\ntopics = ["devices/{id}"]\n',
            "has no device id",
        ),
        ('[[rule]]\nname = "r"\nwho = "user:*"\nactions = ["publish"]\ntopics = ["{group}"]\n', "only devices are in"),
        ("[[rule]]\nname = \n", "is not TOML"),
    ],
)
def test_a_mistake_names_file_rule_and_mend(tmp_path, text, message):
    with pytest.raises(ConfigError) as caught:
        rules(tmp_path, text)
    assert message in caught.value.message
    assert f"{tmp_path}/rules.toml" in caught.value.message
    assert caught.value.mend
    assert caught.value.code == "rule-invalid"


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        load_rules(tmp_path / "rules.toml")


@pytest.mark.parametrize(
    "text", ["#", "+", "a/#", "+/b/+", "/", "a//b", "$SYS/broker/#", "devices/{id}/{client}/#", "{group}/+", "é"]
)
def test_filters_that_hold(text):
    assert check_filter(text) == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),  # [MQTT-4.7.3-1]
        ("a\0b", "null"),  # [MQTT-4.7.3-2]
        ("x" * 65536, "longer"),  # section 4.7.3
        ("a/#/b", "#"),  # [MQTT-4.7.1-1]
        ("a#", "#"),
        ("#/a", "#"),
        ("a+/b", "+"),  # [MQTT-4.7.1-2]
        ("a/{name}", "{name}"),
        ("a/{id", "brace"),
        ("a/}", "brace"),
        ("$share/g/a", "shared subscription"),
    ],
)
def test_filters_that_do_not(text, said):
    assert said in check_filter(text)
