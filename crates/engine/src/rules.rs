//! Who may publish and subscribe to what: rules, resolved once for each connection.
//!
//! Refuses to know connections and sessions. The first rule that matches decides; no match means no.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use sealmq_codec::topic::{self, Pattern};
use who::{Identity, Who};

mod who;

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

/// One rule as configured. In `filter`, `{id}` stands for the device id or the user's name, `{client}` for the client
/// identifier and `{group}` for a group of the device: the rule then holds once for each.
#[derive(Clone, Debug)]
pub struct Rule {
    pub name: String,
    pub effect: Effect,
    /// Whom it is about, as a glob: `PATTERN` over device ids, `group:PATTERN` over the groups of a device, `user:PATTERN`
    /// over users with a password; `anonymous` means clients without any identity, and nobody else.
    pub who: String,
    pub publish: bool,
    pub subscribe: bool,
    pub filter: String,
}

/// The groups of each device that is in one.
pub type Groups = BTreeMap<String, Vec<String>>;

/// The compiled rule set of a broker.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    groups: Arc<Groups>,
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
            let mut probe = rule.filter.clone();
            for placeholder in PLACEHOLDERS {
                probe = probe.replace(placeholder, "x");
            }
            if !topic::is_valid_filter(&probe) || probe.contains(['{', '}']) {
                return Err(RuleFault {
                    rule: rule.name.clone(),
                    what: format!(
                        "{} is no topic filter with {{id}}, {{client}} or {{group}}",
                        rule.filter
                    ),
                });
            }
            if rule.filter.contains(GROUP) && matches!(Who::of(&rule.who), Who::User(_) | Who::Anonymous) {
                return Err(RuleFault {
                    rule: rule.name.clone(),
                    what: format!("{} has {{group}}, and {} is in no group", rule.filter, rule.who),
                });
            }
        }
        Ok(Rules {
            rules,
            groups: Arc::default(),
            allow_all: false,
        })
    }

    /// The same rules with these groups. A group stands in topic filters, so its name must be one topic level without
    /// wildcards.
    pub fn with_groups(self, groups: Groups) -> Result<Rules, RuleFault> {
        let unfit = |group: &&String| group.is_empty() || group.contains(['/', '+', '#', '{', '}', '\0']);
        for (device, list) in &groups {
            if let Some(group) = list.iter().find(unfit) {
                return Err(RuleFault {
                    rule: format!("of group {group:?}"),
                    what: format!(
                        "the group of {device} cannot stand in a topic: it is empty or has / + # {{ }} in it"
                    ),
                });
            }
        }
        Ok(Rules {
            groups: Arc::new(groups),
            ..self
        })
    }

    /// Every action is allowed. Only `[dangerous] allow_all` leads here.
    pub fn dangerous_allow_all() -> Rules {
        Rules {
            allow_all: true,
            ..Rules::default()
        }
    }

    /// The topics that are `device`'s own: where rules let it publish by its id. What only its connections know is `+`.
    /// A rule about others says nothing: a user of the same name has topics of his own.
    pub(crate) fn own_topics(&self, device: &str) -> Vec<String> {
        let groups = self.groups.get(device).map_or(&[][..], Vec::as_slice);
        let is_his = |rule: &Rule| Who::of(&rule.who).fits(Identity::Device(device), groups);
        let is_own =
            |rule: &&Rule| rule.effect == Effect::Allow && rule.publish && rule.filter.contains(ID) && is_his(rule);
        let filled = |rule: &Rule| rule.filter.replace(ID, device).replace(CLIENT, "+").replace(GROUP, "+");
        self.rules.iter().filter(is_own).map(filled).collect()
    }

    /// The rules as they stand for one connection. `identity` is a device id, or `user:NAME`, or nothing for a client
    /// without either.
    pub fn resolve(&self, identity: Option<&str>, client_id: &str) -> Permit {
        let identity = Identity::of(identity);
        let groups = match identity {
            Identity::Device(id) => self.groups.get(id).map_or(&[][..], Vec::as_slice),
            Identity::User(_) | Identity::Anonymous => &[],
        };
        let mut resolved = Vec::new();
        for rule in &self.rules {
            // An identifier with wildcards or separators must not widen the rule it is put into.
            if rule.filter.contains(CLIENT) && client_id.contains(['/', '+', '#']) {
                continue;
            }
            let mut hold = |filter: String| {
                resolved.push(Resolved {
                    effect: rule.effect,
                    publish: rule.publish,
                    subscribe: rule.subscribe,
                    pattern: Pattern::new(filter),
                    name: rule.name.as_str().into(),
                });
            };
            let who = Who::of(&rule.who);
            // What a client chose goes in last: a placeholder in it stays text.
            let filled = |filter: &str| filter.replace(ID, identity.name()).replace(CLIENT, client_id);
            if rule.filter.contains(GROUP) {
                for group in groups.iter().filter(|group| who.fits_in(identity, group)) {
                    hold(filled(&rule.filter.replace(GROUP, group)));
                }
            } else if who.fits(identity, groups) {
                hold(filled(&rule.filter));
            }
        }
        Permit {
            rules: resolved.into_boxed_slice(),
            allow_all: self.allow_all,
        }
    }
}

const ID: &str = "{id}";
const CLIENT: &str = "{client}";
const GROUP: &str = "{group}";
const PLACEHOLDERS: [&str; 3] = [ID, CLIENT, GROUP];

#[derive(Clone, Debug)]
struct Resolved {
    effect: Effect,
    publish: bool,
    subscribe: bool,
    pattern: Pattern,
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

/// What a look at the rules found, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub is_allowed: bool,
    /// The rule that decided.
    pub rule: Option<String>,
    pub why: String,
}

impl Denial {
    pub fn sentence(&self, action: Action, topic: &str) -> String {
        match &self.rule {
            Some(rule) => format!("rule {rule} denies {} on {topic}", action.name()),
            None => format!("no rule allows {} on {topic}", action.name()),
        }
    }
}

/// Trees that the broker alone writes (section 4.7.2), whatever a rule says.
const OWN_TREES: [&str; 3] = ["$SYS", "$ca", "$sealmq"];

/// The rule of the broker itself that stands before all others.
#[inline]
fn own_tree(name: &str) -> Option<Denial> {
    // As all of them begin, and hardly any other name.
    if !name.starts_with('$') {
        return None;
    }
    let tree = name.split('/').next()?; // the tree's own name too: `$ca/#` covers it [MQTT-4.7.1-2]
    OWN_TREES.contains(&tree).then(|| Denial {
        rule: Some(format!("{tree} is written by the broker only")),
    })
}

impl Permit {
    /// May this connection publish to `name`?
    pub fn publish(&self, name: &str) -> Result<Authorized, Denial> {
        match own_tree(name) {
            Some(denial) => Err(denial),
            None => self.decide(self.publish_rule(name)),
        }
    }

    /// May this connection subscribe to `filter` (without its `$share` prefix)? An allowing rule has to cover all of
    /// the filter; a denying rule bites as soon as it overlaps.
    pub fn subscribe(&self, filter: &str) -> Result<Authorized, Denial> {
        self.decide(self.subscribe_rule(filter))
    }

    /// Which rule decides about an action on a topic name (publish, will) or topic filter (subscribe), and why.
    pub fn explain(&self, action: Action, topic: &str) -> Explanation {
        if action != Action::Subscribe
            && let Some(denial) = own_tree(topic)
        {
            return Explanation {
                is_allowed: false,
                rule: None,
                why: denial.sentence(action, topic),
            };
        }
        if self.allow_all {
            return Explanation {
                is_allowed: true,
                rule: None,
                why: "dangerous.allow_all allows everything to everybody".to_owned(),
            };
        }
        let rule = match action {
            Action::Publish | Action::Will => self.publish_rule(topic),
            Action::Subscribe => self.subscribe_rule(topic),
        };
        let why = match rule {
            None => format!("no rule allows {} on {topic}", action.name()),
            Some(rule) => {
                let (verb, how) = match (rule.effect, action) {
                    (Effect::Allow, Action::Subscribe) => ("allows", "covers"),
                    (Effect::Deny, Action::Subscribe) => ("denies", "overlaps with"),
                    (Effect::Allow, _) => ("allows", "matches"),
                    (Effect::Deny, _) => ("denies", "matches"),
                };
                format!(
                    "rule {} {verb} {} on {topic}: it is the first whose topic {how} it, with {}",
                    rule.name,
                    action.name(),
                    rule.pattern.as_str()
                )
            }
        };
        Explanation {
            is_allowed: rule.is_some_and(|rule| rule.effect == Effect::Allow),
            rule: rule.map(|rule| rule.name.as_ref().into()),
            why,
        }
    }

    fn publish_rule(&self, name: &str) -> Option<&Resolved> {
        self.rules
            .iter()
            .find(|rule| rule.publish && rule.pattern.matches(name))
    }

    fn subscribe_rule(&self, filter: &str) -> Option<&Resolved> {
        self.rules.iter().find(|rule| {
            rule.subscribe
                && match rule.effect {
                    Effect::Allow => topic::covers(rule.pattern.as_str(), filter),
                    Effect::Deny => topic::overlaps(rule.pattern.as_str(), filter),
                }
        })
    }

    fn decide(&self, rule: Option<&Resolved>) -> Result<Authorized, Denial> {
        match rule {
            _ if self.allow_all => Ok(Authorized(())),
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
mod tests;
