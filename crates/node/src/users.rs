//! Users with passwords, for clients that cannot hold a certificate: verified on a thread of their own, one at a time.
//!
//! Refuses to know connections: a login comes with a number, and its answer has the same.
//!
//! A verification is costly on purpose (argon2id, RFC 9106). One thread does them, so that a flood of guesses takes one
//! core and the memory of one hash; the line before it is short, and whoever finds it full is told to come later. One
//! address gets a part of the line only, so that its guesses do not shut out the users of other addresses.

use crate::config::UserConfig;
use argon2::password_hash::{Output, PasswordHash, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, sync_channel};

/// Logins that wait for their turn; at some tens of milliseconds each, the last one waits for less than a CONNECT may take.
const WAITING: usize = 64;
/// Of them those from one address (IPv6: one /64, which is what a single host may have).
const FROM_ONE_ADDRESS: usize = 16;
/// Memory that one verification may ask for, in KiB: what a hash says is done for everybody who knocks.
const MOST_MEMORY_KIB: u32 = 256 * 1024;
/// Passes over that memory.
const MOST_PASSES: u32 = 16;
const MOST_LANES: u32 = 16;

/// The users of one configuration.
pub struct Users {
    hashes: HashMap<Arc<str>, String>,
    /// What the password of somebody unknown is held against, so that he waits as long as the others.
    decoy: String,
}

impl Users {
    /// `Err` is a sentence about one of them; hashes are not in it.
    pub fn new(users: &[UserConfig]) -> Result<Users, String> {
        let mut hashes = HashMap::new();
        for user in users {
            if !crate::certificate::is_fit(&user.name) {
                return Err(format!("user {:?} has a name that cannot be an identity", user.name));
            }
            check(&user.hash).map_err(|why| format!("password hash of user {} {why}", user.name))?;
            if hashes.insert(user.name.as_str().into(), user.hash.clone()).is_some() {
                return Err(format!("user {} is there twice", user.name));
            }
        }
        let decoy = users.first().map_or(Ok(String::new()), |first| decoy(&first.hash))?;
        Ok(Users { hashes, decoy })
    }

    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    pub fn knows(&self, name: &str) -> bool {
        self.hashes.contains_key(name)
    }

    /// The user, when the password is his. Somebody unknown takes as long as the first of the list.
    fn verify(&self, name: &str, password: &[u8]) -> Option<Arc<str>> {
        let known = self.hashes.get_key_value(name);
        let hash = PasswordHash::new(known.map_or(&self.decoy, |(_, hash)| hash)).ok()?;
        let is_right = Argon2::default().verify_password(password, &hash).is_ok();
        known.filter(|_| is_right).map(|(name, _)| Arc::clone(name))
    }
}

/// What is wrong with a hash, as the end of a sentence.
fn check(text: &str) -> Result<(), String> {
    let hash = PasswordHash::new(text).map_err(|e| format!("is not in PHC form: {e}"))?;
    if hash.algorithm != Algorithm::Argon2id.ident() || hash.hash.is_none() || hash.salt.is_none() {
        return Err("is not one of argon2id".into());
    }
    let params = Params::try_from(&hash).map_err(|e| format!("has parameters that cannot be used: {e}"))?;
    if params.m_cost() > MOST_MEMORY_KIB || params.t_cost() > MOST_PASSES || params.p_cost() > MOST_LANES {
        return Err(format!(
            "asks for more than {MOST_MEMORY_KIB} KiB, {MOST_PASSES} passes and {MOST_LANES} lanes"
        ));
    }
    Ok(())
}

/// A hash with the parameters of `model` that no password fits.
fn decoy(model: &str) -> Result<String, String> {
    let mut hash = PasswordHash::new(model).map_err(|e| e.to_string())?;
    let mut output = [0; 32];
    getrandom::fill(&mut output).map_err(|e| format!("system has no randomness: {e}"))?;
    hash.hash = Some(Output::new(&output).map_err(|e| e.to_string())?);
    Ok(hash.to_string())
}

/// Somebody who says that he is `name`.
pub struct Login {
    /// The caller's own, for the answer.
    pub number: u64,
    pub users: Arc<Users>,
    pub name: String,
    pub password: Vec<u8>,
}

/// What came of a login: the user, or nobody.
pub struct Answer {
    pub number: u64,
    pub user: Option<Arc<str>>,
}

/// The line is full, or the part of it that one address may have.
pub struct Busy;

/// The way to the verifying thread.
pub struct Logins {
    line: SyncSender<Login>,
    /// Whence the logins came that have no answer yet, by their number. Whoever has left is among them: his password is
    /// verified all the same.
    unanswered: HashMap<u64, IpAddr>,
}

impl Logins {
    /// A line, and its end for [`serve`].
    pub fn new() -> (Logins, Receiver<Login>) {
        let (line, receiver) = sync_channel(WAITING);
        let unanswered = HashMap::new();
        (Logins { line, unanswered }, receiver)
    }

    /// Get in line, coming from that address.
    pub fn submit(&mut self, login: Login, from: IpAddr) -> Result<(), Busy> {
        let (number, from) = (login.number, network(from));
        if self.unanswered.values().filter(|other| **other == from).count() >= FROM_ONE_ADDRESS {
            return Err(Busy);
        }
        self.line.try_send(login).map_err(|e| match e {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => Busy,
        })?;
        self.unanswered.insert(number, from);
        Ok(())
    }

    /// The answer with this number has come.
    pub fn answered(&mut self, number: u64) {
        self.unanswered.remove(&number);
    }
}

/// What counts as one address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX)).into(),
        four => four,
    }
}

/// Verify until the line is closed; `wake` tells whoever waits that there is an answer.
pub fn serve(logins: &Receiver<Login>, answers: &Sender<Answer>, wake: impl Fn()) {
    while let Ok(login) = logins.recv() {
        let user = login.users.verify(&login.name, &login.password);
        let number = login.number;
        if answers.send(Answer { number, user }).is_err() {
            return;
        }
        wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::PasswordHasher;
    use argon2::password_hash::Salt;
    use std::sync::mpsc::channel;

    /// As cheap as the algorithm allows.
    fn hash(password: &str) -> String {
        let cheap = Argon2::new(
            Algorithm::Argon2id,
            argon2::Version::V0x13,
            Params::new(8, 1, 1, None).unwrap(),
        );
        let salt = Salt::from_b64("c2FsdHNhbHRzYWx0").unwrap();
        cheap.hash_password(password.as_bytes(), salt).unwrap().to_string()
    }

    fn user(name: &str, hash: String) -> UserConfig {
        UserConfig {
            name: name.into(),
            hash,
        }
    }

    fn users(list: &[(&str, &str)]) -> Arc<Users> {
        let list: Vec<_> = list.iter().map(|(name, password)| user(name, hash(password))).collect();
        Arc::new(Users::new(&list).unwrap())
    }

    #[test]
    fn only_the_right_password_of_the_right_user() {
        let users = users(&[("ann", "one"), ("bob", "two")]);
        assert_eq!(users.verify("ann", b"one").as_deref(), Some("ann"));
        for (name, password) in [("ann", "two"), ("bob", "one"), ("eve", "one"), ("", ""), ("ann", "")] {
            assert_eq!(users.verify(name, password.as_bytes()), None, "{name} {password}");
        }
    }

    #[test]
    fn somebody_unknown_is_held_against_a_hash_of_the_same_cost() {
        let users = users(&[("ann", "one")]);
        let params = |text: &str| PasswordHash::new(text).unwrap().params.to_string();
        assert_eq!(params(&users.decoy), params(&users.hashes["ann"]));
        assert_ne!(users.decoy, users.hashes["ann"]);
    }

    #[test]
    fn what_cannot_be_used_is_told_without_the_hash() {
        let good = hash("x");
        let costly = good.replace("m=8", "m=9999999");
        let other = good.replace("argon2id", "argon2i");
        for (name, hash, word) in [
            ("ann", "plain text", "PHC"),
            ("ann", other.as_str(), "argon2id"),
            ("ann", costly.as_str(), "KiB"),
            ("a/b", good.as_str(), "identity"),
            ("", good.as_str(), "identity"),
        ] {
            let sentence = Users::new(&[user(name, hash.into())]).err().unwrap();
            assert!(sentence.contains(word) && !sentence.contains(hash), "{sentence}");
        }
        let twice = Users::new(&[user("ann", good.clone()), user("ann", good)]);
        assert!(twice.err().unwrap().contains("twice"));
    }

    #[test]
    fn the_line_is_bounded_and_answers_keep_their_number() {
        let users = users(&[("ann", "one")]);
        let (mut logins, line) = Logins::new();
        let from = |number: u64| IpAddr::from([192, 0, 2, (number / FROM_ONE_ADDRESS as u64) as u8]);
        let login = |number: u64, password: &str| Login {
            number,
            users: Arc::clone(&users),
            name: "ann".into(),
            password: password.into(),
        };
        for number in 0..WAITING as u64 {
            let password = if number % 2 == 0 { "one" } else { "two" };
            assert!(logins.submit(login(number, password), from(number)).is_ok());
        }
        assert!(logins.submit(login(99, "one"), from(99)).is_err());
        drop(logins);
        let (sender, answers) = channel();
        serve(&line, &sender, || {});
        for number in 0..WAITING as u64 {
            let answer = answers.recv().unwrap();
            assert_eq!((answer.number, answer.user.is_some()), (number, number % 2 == 0));
        }
    }

    #[test]
    fn one_address_cannot_take_the_whole_line() {
        let users = users(&[("ann", "one")]);
        let (mut logins, _line) = Logins::new();
        let submit = |logins: &mut Logins, number: u64, from: &str| {
            let (users, name, password) = (Arc::clone(&users), "ann".into(), b"guess".into());
            let login = Login {
                number,
                users,
                name,
                password,
            };
            logins.submit(login, from.parse().unwrap()).is_ok()
        };
        for number in 0..FROM_ONE_ADDRESS as u64 {
            assert!(submit(&mut logins, number, &format!("2001:db8::{number:x}")));
            assert!(submit(&mut logins, 100 + number, "192.0.2.1"));
        }
        assert!(
            !submit(&mut logins, 50, "2001:db8::ffff"),
            "the same host by another address of its own"
        );
        assert!(
            !submit(&mut logins, 150, "::ffff:192.0.2.1"),
            "the same address spelt otherwise"
        );
        assert!(submit(&mut logins, 51, "2001:db8:0:1::1") && submit(&mut logins, 151, "192.0.2.2"));
        logins.answered(3);
        assert!(submit(&mut logins, 52, "2001:db8::1") && !submit(&mut logins, 53, "2001:db8::1"));
    }
}
