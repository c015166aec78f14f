//! A client without a certificate says who it is: user name and password in its CONNECT.
//!
//! Refuses to know how a password is verified; that is done elsewhere and takes its time.

use super::causes::too_many_logins;
use super::{Gate, Pending, Step};
use crate::refusal::{Refusal, Stage};
use crate::users::{Answer, Login};
use sealmq_codec::{Connect, Framed, ReasonCode, frame};
use sealmq_engine::refusal_bytes;
use std::sync::Arc;

/// The credentials to verify before this client gets in; `None` when it gets in as who it is: the bearer of a
/// certificate, or anonymous where that is allowed.
pub(super) fn credentials(pending: &Pending, connect: &Connect<'_>) -> Result<Option<Login>, Refusal> {
    let settings = &pending.settings;
    // In clear nobody is asked for a password: it would be everybody's.
    if pending.device.is_some() || pending.link.tls.is_none() || settings.users.is_empty() {
        return Ok(None);
    }
    match (connect.username, connect.password) {
        (Some(name), Some(password)) => Ok(Some(Login {
            number: 0,
            users: Arc::clone(&settings.users),
            name: name.to_owned(),
            password: password.to_owned(),
        })),
        _ if settings.dangerous.anonymous => Ok(None),
        _ => Err(Refusal::new(
            Stage::Connect,
            "no-credentials",
            "client shows neither a certificate nor a user name with a password",
            "give the client the certificate of a device (`sealmq device add ID`), or a user (`sealmq user add NAME`)",
        )),
    }
}

impl Gate {
    /// Have the credentials verified; the connection waits in its place.
    pub(super) fn log_in(&mut self, key: usize, connect_size: usize, login: Login) -> Result<(), Refusal> {
        let Some(pending) = self.pending.get_mut(key) else {
            return Ok(());
        };
        self.login_count += 1;
        let number = self.login_count;
        if self
            .logins
            .submit(Login { number, ..login }, pending.peer.ip())
            .is_err()
        {
            let refusal = too_many_logins();
            answer(pending, ReasonCode::ServerBusy, &refusal);
            return Err(refusal);
        }
        pending.step = Step::Login;
        pending.login = Some((number, connect_size));
        Ok(())
    }

    /// Let in, or refuse, whoever was verified. Somebody may have left meanwhile; his place may be another's.
    pub(super) fn take_answers(&mut self) {
        while let Ok(Answer { number, user }) = self.answers.try_recv() {
            self.logins.answered(number);
            let waits = |p: &Pending| p.login.filter(|&(own, _)| own == number && p.step == Step::Login);
            let found = self.pending.iter().find_map(|(key, p)| Some((key, waits(p)?)));
            let Some((key, (_, connect_size))) = found else {
                continue;
            };
            let Some(pending) = self.pending.get_mut(key) else {
                continue;
            };
            if user.is_some() {
                pending.user = user;
                self.hand_over(key, connect_size);
            } else {
                let refusal = Refusal::bad_credentials();
                answer(pending, ReasonCode::BadUserNameOrPassword, &refusal);
                self.refuse(key, refusal);
            }
        }
    }
}

/// Queue the CONNACK that says no.
fn answer(pending: &mut Pending, reason: ReasonCode, refusal: &Refusal) {
    if let Ok(Framed::Whole(whole)) = frame(&pending.plain, u32::MAX)
        && let Ok(connect) = Connect::decode(whole.body)
    {
        let bytes = refusal_bytes(&connect, reason, &refusal.summary);
        let _ = pending.link.queue(&bytes);
    }
}
