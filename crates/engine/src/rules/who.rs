//! Whom a rule is about, and whether a connection is that.
//!
//! Refuses to know topics.

use alloc::string::String;
use core::str::Chars;

/// Who a connection is. A device id has no `:` in it, so that no device can be taken for a user.
#[derive(Clone, Copy)]
pub(super) enum Identity<'a> {
    Device(&'a str),
    User(&'a str),
    Anonymous,
}

impl<'a> Identity<'a> {
    pub fn of(text: Option<&'a str>) -> Identity<'a> {
        match text {
            None => Identity::Anonymous,
            Some(text) => text
                .strip_prefix("user:")
                .map_or(Identity::Device(text), Identity::User),
        }
    }

    pub fn name(self) -> &'a str {
        match self {
            Identity::Device(name) | Identity::User(name) => name,
            Identity::Anonymous => "anonymous",
        }
    }
}

/// Whom a rule is about: a pattern over one kind of names.
#[derive(Clone, Copy)]
pub(super) enum Who<'a> {
    Device(&'a str),
    Group(&'a str),
    User(&'a str),
    Anonymous,
}

impl<'a> Who<'a> {
    pub fn of(text: &'a str) -> Who<'a> {
        match text.split_once(':') {
            Some(("group", pattern)) => Who::Group(pattern),
            Some(("user", pattern)) => Who::User(pattern),
            _ if text == "anonymous" => Who::Anonymous,
            _ => Who::Device(text),
        }
    }

    pub fn fits(self, identity: Identity<'_>, groups: &[String]) -> bool {
        match (self, identity) {
            (Who::Device(pattern), Identity::Device(name)) | (Who::User(pattern), Identity::User(name)) => {
                glob(pattern, name)
            }
            (Who::Group(pattern), Identity::Device(_)) => groups.iter().any(|group| glob(pattern, group)),
            (Who::Anonymous, Identity::Anonymous) => true,
            _ => false,
        }
    }

    /// Whether the rule holds for the device as a member of this group of its.
    pub fn fits_in(self, identity: Identity<'_>, group: &String) -> bool {
        self.fits(identity, core::slice::from_ref(group))
    }
}

/// `*` matches any run of characters, `?` any one, everything else itself.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
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
