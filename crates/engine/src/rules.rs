//! Who may publish and subscribe to what: rules, resolved once for each connection.
//!
//! Refuses to know connections and sessions. The first rule that matches decides; no match means no.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::str::Chars;
use sealmq_codec::topic;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Allow,
    Deny,
}

/// What a rule or a denial is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Publish,
    Subscribe,
    Will,
}

impl Action {
    pub fn name(self) -> &'static str {
        match self {
            Action::Publish => "publish",
            Action::Subscribe => "subscribe",
            Action::Will => "will",
        }
    }
}

/// One rule as configured. `{id}` and `{client}` in `filter` stand for the device id and the client identifier.
#[derive(Clone, Debug)]
pub struct Rule {
    pub name: String,
    pub effect: Effect,
    /// A glob over device ids; `anonymous` means clients without a certificate, and nobody else.
    pub who: String,
    pub publish: bool,
    pub subscribe: bool,
    pub filter: String,
}

/// The compiled rule set of a broker.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    allow_all: bool,
}

/// A rule that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFault {
    pub rule: String,
    pub what: String,
}

impl Rules {
    pub fn new(rules: Vec<Rule>) -> Result<Rules, RuleFault> {
        for rule in &rules {
            let probe = rule.filter.replace("{id}", "id").replace("{client}", "client");
            if !topic::is_valid_filter(&probe) || probe.contains(['{', '}']) {
                return Err(RuleFault {
                    rule: rule.name.clone(),
                    what: format!("{} is no topic filter with {{id}} or {{client}}", rule.filter),
                });
            }
        }
        Ok(Rules {
            rules,
            allow_all: false,
        })
    }

    /// Every action is allowed. Only `[dangerous] allow_all` leads here.
    pub fn dangerous_allow_all() -> Rules {
        Rules {
            rules: Vec::new(),
            allow_all: true,
        }
    }

    /// The rules as they stand for one connection.
    pub fn resolve(&self, device: Option<&str>, client_id: &str) -> Permit {
        let resolved = self
            .rules
            .iter()
            .filter(|rule| match device {
                Some(device) => rule.who != "anonymous" && glob(&rule.who, device),
                None => rule.who == "anonymous",
            })
            .filter_map(|rule| {
                let id = device.unwrap_or("anonymous");
                // An identifier with wildcards or separators must not widen the rule it is put into.
                if rule.filter.contains("{client}") && client_id.contains(['/', '+', '#']) {
                    return None;
                }
                let filter = rule.filter.replace("{id}", id).replace("{client}", client_id);
                Some(Resolved {
                    effect: rule.effect,
                    publish: rule.publish,
                    subscribe: rule.subscribe,
                    filter: filter.into_boxed_str(),
                    name: rule.name.as_str().into(),
                })
            })
            .collect();
        Permit {
            rules: resolved,
            allow_all: self.allow_all,
        }
    }
}

/// `*` matches any run of characters, `?` any one, everything else itself.
fn glob(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // Where to go on when it fails: behind the last `*`, with one more character given to it.
    let mut retry: Option<(Chars<'_>, Chars<'_>)> = None;
    loop {
        let (before, mut after) = (text.clone(), text.clone());
        match (pattern.next(), after.next()) {
            (Some('*'), _) => {
                retry = Some((pattern.clone(), before));
                continue;
            }
            (None, None) => return true,
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                text = after;
                continue;
            }
            _ => {}
        }
        let Some((behind, given)) = &mut retry else {
            return false;
        };
        if given.next().is_none() {
            return false;
        }
        (pattern, text) = (behind.clone(), given.clone());
    }
}

#[derive(Clone, Debug)]
struct Resolved {
    effect: Effect,
    publish: bool,
    subscribe: bool,
    filter: Box<str>,
    name: Box<str>,
}

/// What one connection may do.
#[derive(Clone, Debug)]
pub struct Permit {
    rules: Box<[Resolved]>,
    allow_all: bool,
}

/// Proof that an action on a topic was allowed; only a [`Permit`] gives it.
#[derive(Clone, Copy, Debug)]
pub struct Authorized(());

/// Why not: the rule that said no, or that none said yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    pub rule: Option<String>,
}

impl Denial {
    pub fn sentence(&self, action: Action, topic: &str) -> String {
        match &self.rule {
            Some(rule) => format!("rule {rule} denies {} on {topic}", action.name()),
            None => format!("no rule allows {} on {topic}", action.name()),
        }
    }
}

impl Permit {
    /// May this connection publish to `name`?
    pub fn publish(&self, name: &str) -> Result<Authorized, Denial> {
        // $SYS is the broker's own tree (section 4.7.2), whatever a rule says.
        if name.starts_with("$SYS/") {
            return Err(Denial {
                rule: Some("$SYS is written by the broker only".to_owned()),
            });
        }
        self.decide(|rule| rule.publish && topic::matches(&rule.filter, name))
    }

    /// May this connection subscribe to `filter` (without its `$share` prefix)? An allowing rule has to cover all of
    /// the filter; a denying rule bites as soon as it overlaps.
    pub fn subscribe(&self, filter: &str) -> Result<Authorized, Denial> {
        self.decide(|rule| {
            rule.subscribe
                && match rule.effect {
                    Effect::Allow => topic::covers(&rule.filter, filter),
                    Effect::Deny => topic::overlaps(&rule.filter, filter),
                }
        })
    }

    fn decide(&self, applies: impl Fn(&Resolved) -> bool) -> Result<Authorized, Denial> {
        if self.allow_all {
            return Ok(Authorized(()));
        }
        match self.rules.iter().find(|rule| applies(rule)) {
            Some(rule) if rule.effect == Effect::Allow => Ok(Authorized(())),
            Some(rule) => Err(Denial {
                rule: Some(rule.name.as_ref().into()),
            }),
            None => Err(Denial { rule: None }),
        }
    }
}

/// The broker's own messages ($SYS) need no rule.
pub(crate) fn broker_itself() -> Authorized {
    Authorized(())
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_device_touches_only_its_own_topics() {
        let rules = Rules::new(vec![rule("own", Effect::Allow, "*", "devices/{id}/#")]).unwrap();
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
        let rules = Rules::new(vec![
            rule("secret", Effect::Deny, "*", "shared/secret/#"),
            rule("shared", Effect::Allow, "gateway-*", "shared/#"),
        ])
        .unwrap();
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
        let rules = Rules::new(vec![rule("c", Effect::Allow, "*", "c/{client}/x")]).unwrap();
        assert!(rules.resolve(Some("d"), "+").subscribe("c/+/x").is_err());
        assert!(rules.resolve(Some("d"), "a/b").publish("c/a/b/x").is_err());
        assert!(rules.resolve(Some("d"), "ab").publish("c/ab/x").is_ok());
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
        let fault = Rules::new(vec![rule("bad", Effect::Allow, "*", "a/#/b")]).unwrap_err();
        assert_eq!(fault.rule, "bad");
        assert!(Rules::new(vec![rule("bad", Effect::Allow, "*", "a/{oops}")]).is_err());
    }
}
