//! The rules, one habit each.

use super::who::glob;
use super::*;
use alloc::vec;

fn rule(name: &str, effect: Effect, who: &str, filter: &str) -> Rule {
    Rule {
        name: name.into(),
        effect,
        who: who.into(),
        publish: true,
        subscribe: true,
        filter: filter.into(),
    }
}

fn rules(list: Vec<Rule>) -> Rules {
    Rules::new(list).unwrap()
}

fn in_groups(list: Vec<Rule>, device: &str, groups: &[&str]) -> Rules {
    let groups = groups.iter().map(|&g| g.into()).collect();
    rules(list)
        .with_groups(Groups::from([(device.into(), groups)]))
        .unwrap()
}

#[test]
fn a_device_touches_only_its_own_topics() {
    let rules = rules(vec![rule("own", Effect::Allow, "*", "devices/{id}/#")]);
    let permit = rules.resolve(Some("a"), "a");
    assert!(permit.publish("devices/a/up").is_ok());
    assert_eq!(permit.publish("devices/b/up").unwrap_err(), Denial { rule: None });
    assert!(permit.subscribe("devices/a/+").is_ok());
    assert!(permit.subscribe("devices/+/up").is_err());
    assert!(permit.subscribe("#").is_err());
    assert!(permit.publish("$SYS/broker/uptime").is_err());
}

#[test]
fn no_rules_means_nothing_is_allowed() {
    let permit = Rules::default().resolve(Some("a"), "a");
    assert!(permit.publish("x").is_err());
    assert!(permit.subscribe("x").is_err());
}

#[test]
fn the_first_match_decides_and_a_deny_names_itself() {
    let rules = rules(vec![
        rule("secret", Effect::Deny, "*", "shared/secret/#"),
        rule("shared", Effect::Allow, "gateway-*", "shared/#"),
    ]);
    let permit = rules.resolve(Some("gateway-7"), "gateway-7");
    assert!(permit.publish("shared/x").is_ok());
    assert_eq!(
        permit.publish("shared/secret/x").unwrap_err().rule.as_deref(),
        Some("secret")
    );
    // the filter reaches into what is denied
    assert!(permit.subscribe("shared/#").is_err());
    assert!(permit.subscribe("shared/open/#").is_ok());
    assert!(rules.resolve(Some("sensor"), "sensor").publish("shared/x").is_err());
    assert!(rules.resolve(None, "c").publish("shared/x").is_err());
}

#[test]
fn a_client_identifier_cannot_widen_a_rule() {
    let rules = rules(vec![rule("c", Effect::Allow, "*", "c/{client}/x")]);
    assert!(rules.resolve(Some("d"), "+").subscribe("c/+/x").is_err());
    assert!(rules.resolve(Some("d"), "a/b").publish("c/a/b/x").is_err());
    assert!(rules.resolve(Some("d"), "ab").publish("c/ab/x").is_ok());
    let both = in_groups(vec![rule("g", Effect::Allow, "*", "{group}/{client}")], "d", &["plant"]);
    assert!(both.resolve(Some("d"), "d:{group}").publish("plant/d:{group}").is_ok());
    assert!(both.resolve(Some("d"), "d:{group}").publish("plant/d:plant").is_err());
}

#[test]
fn globs() {
    for (pattern, text, expected) in [
        ("*", "", true),
        ("a*", "abc", true),
        ("*c", "abc", true),
        ("a*c", "ac", true),
        ("a*b*c", "aXbYc", true),
        ("a", "ab", false),
        ("a*d", "abc", false),
        ("ab*ba", "aba", false),
        ("*a*b*", "xxaxxbxx", true),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("?", "", false),
        ("?*", "abc", true),
        ("*??c", "abc", true),
        ("*??c", "bc", false),
    ] {
        assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
    }
}

#[test]
fn a_broken_filter_names_its_rule() {
    for (who, filter) in [
        ("*", "a/#/b"),
        ("*", "a/{oops}"),
        ("user:*", "{group}/#"),
        ("anonymous", "{group}"),
    ] {
        let fault = Rules::new(vec![rule("bad", Effect::Allow, who, filter)]).unwrap_err();
        assert_eq!(fault.rule, "bad", "{who} {filter}");
    }
}

#[test]
fn a_rule_for_a_group_is_for_its_members() {
    let rules = in_groups(
        vec![rule("plant", Effect::Allow, "group:plant-*", "plant/state")],
        "a",
        &["x", "plant-7"],
    );
    assert!(rules.resolve(Some("a"), "a").publish("plant/state").is_ok());
    for other in [Some("b"), Some("plant-7"), Some("user:a"), None] {
        assert!(rules.resolve(other, "c").publish("plant/state").is_err(), "{other:?}");
    }
}

#[test]
fn a_rule_with_group_holds_once_for_each() {
    let everywhere = rule("all", Effect::Allow, "*", "all/{group}/{id}");
    let plants = rule("plants", Effect::Allow, "group:plant-*", "{group}/#");
    let rules = in_groups(vec![everywhere, plants], "a", &["plant-1", "admins", "plant-2"]);
    let permit = rules.resolve(Some("a"), "a");
    for allowed in ["all/plant-1/a", "all/admins/a", "plant-1/x", "plant-2/x"] {
        assert!(permit.publish(allowed).is_ok(), "{allowed}");
    }
    // a member by way of its plants, not by way of everything else it is in
    for denied in ["admins/x", "all/plant-3/a", "all/plant-1/b"] {
        assert!(permit.publish(denied).is_err(), "{denied}");
    }
    assert!(rules.resolve(Some("b"), "b").publish("all/plant-1/b").is_err());
}

#[test]
fn a_group_cannot_widen_a_rule() {
    for group in ["", "+", "#", "a/b", "a+", "{id}"] {
        let groups = Groups::from([("a".into(), vec![group.into()])]);
        let fault = Rules::default().with_groups(groups).unwrap_err();
        assert!(fault.what.contains("group of a"), "{group:?}");
    }
}

#[test]
fn users_and_devices_are_not_each_other() {
    let rules = rules(vec![
        rule("devices", Effect::Allow, "*", "devices/{id}/#"),
        rule("users", Effect::Allow, "user:b*", "users/{id}/#"),
    ]);
    let user = rules.resolve(Some("user:bob"), "user:bob");
    assert!(user.publish("users/bob/x").is_ok());
    assert!(user.publish("devices/bob/x").is_err());
    assert!(
        rules
            .resolve(Some("user:ann"), "user:ann")
            .publish("users/ann/x")
            .is_err()
    );
    assert!(rules.resolve(Some("bob"), "bob").publish("users/bob/x").is_err());
    assert!(rules.resolve(None, "bob").publish("users/bob/x").is_err());
}

#[test]
fn what_the_broker_says_nobody_else_says() {
    for rules in [
        rules(vec![rule("all", Effect::Allow, "*", "$ca/#")]),
        Rules::dangerous_allow_all(),
    ] {
        let permit = rules.resolve(Some("a"), "a");
        for topic in ["$SYS/broker/uptime", "$ca/bundle", "$sealmq/expiry/root", "$SYS", "$ca"] {
            let denial = permit.publish(topic).unwrap_err();
            assert!(denial.rule.unwrap().contains("by the broker only"), "{topic}");
        }
        assert!(permit.subscribe("$ca/bundle").is_ok());
    }
}

#[test]
fn an_explanation_says_what_the_decision_says() {
    let rules = rules(vec![
        rule("secret", Effect::Deny, "*", "shared/secret/#"),
        rule("shared", Effect::Allow, "*", "shared/#"),
    ]);
    let permit = rules.resolve(Some("a"), "a");
    for (action, topic, by) in [
        (Action::Publish, "shared/x", Some("shared")),
        (Action::Publish, "shared/secret/x", Some("secret")),
        (Action::Publish, "other", None),
        (Action::Publish, "$SYS/x", None),
        (Action::Subscribe, "shared/#", Some("secret")),
        (Action::Subscribe, "shared/open/+", Some("shared")),
        (Action::Subscribe, "#", Some("secret")),
        (Action::Subscribe, "+/other", None),
    ] {
        let decision = match action {
            Action::Subscribe => permit.subscribe(topic),
            _ => permit.publish(topic),
        };
        let found = permit.explain(action, topic);
        assert_eq!(found.is_allowed, decision.is_ok(), "{topic}");
        assert_eq!(found.rule.as_deref(), by, "{topic}");
        assert!(
            found.why.contains(topic) && found.why.contains(by.unwrap_or("")),
            "{}",
            found.why
        );
    }
    let found = Rules::dangerous_allow_all()
        .resolve(None, "a")
        .explain(Action::Publish, "x");
    assert!(found.is_allowed && found.why.contains("allow_all"));
}

#[test]
fn topics_are_a_devices_own_by_rules_about_it_alone() {
    let list = vec![
        rule("devices", Effect::Allow, "*", "devices/{id}/#"),
        rule("people", Effect::Allow, "user:*", "people/{id}/#"),
        rule("presses", Effect::Allow, "press-*", "presses/{id}/#"),
        rule("roof", Effect::Allow, "group:roof", "{group}/{id}/#"),
    ];
    let rules = in_groups(list, "anna", &["roof"]);
    assert_eq!(rules.own_topics("anna"), ["devices/anna/#", "+/anna/#"]);
    assert_eq!(rules.own_topics("press-1"), ["devices/press-1/#", "presses/press-1/#"]);
}
