//! Who may not stay: revoked devices and certificates, users that are gone, certificates at the end of their validity.
//!
//! Refuses to know who decided it. Certificates end by the wall clock, so that is what is looked at here.

use super::{Seat, Shard};
use crate::certificate::{CertificateFacts, Fingerprint};
use crate::denylist::Revocation;
use crate::event::now_ms;
use crate::node::Settings;
use sealmq_codec::ReasonCode;
use sealmq_engine::{ConnId, EndCause, Millis};
use std::collections::BTreeSet;
use std::time::Duration;

/// The wall clock may be set while a connection lasts: it is looked at this often.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What a seat remembers of its certificate.
pub(super) struct Validity {
    pub sha256: Fingerprint,
    /// Milliseconds since the Unix epoch.
    pub ends_ms: u64,
}

impl Validity {
    pub fn of(certificate: &CertificateFacts) -> Validity {
        Validity {
            sha256: certificate.sha256,
            ends_ms: certificate.ends_ms(),
        }
    }
}

/// Live connections by the end of their certificates.
#[derive(Default)]
pub(super) struct Expiries(BTreeSet<(u64, u32, u32)>);

impl Expiries {
    pub fn await_end(&mut self, validity: &Validity, id: ConnId) {
        self.0.insert((validity.ends_ms, id.index, id.generation));
    }

    pub fn forget(&mut self, validity: &Validity, id: ConnId) {
        self.0.remove(&(validity.ends_ms, id.index, id.generation));
    }

    /// How long nobody's certificate ends; `None` when there is none.
    pub fn wait(&self) -> Option<Duration> {
        let &(ends_ms, ..) = self.0.first()?;
        Some(Duration::from_millis(ends_ms.saturating_sub(now_ms())).min(LONGEST_WAIT))
    }

    fn take_ended(&mut self) -> Option<ConnId> {
        let &(ends_ms, index, generation) = self.0.first()?;
        if ends_ms > now_ms() {
            return None;
        }
        self.0.pop_first();
        Some(ConnId { index, generation })
    }
}

impl Seat {
    /// Whether it came with a pre-shared key that is none any more. Who comes with a certificate has a validity.
    fn lost_key(&self, settings: &Settings) -> bool {
        let by_key = self.device.as_deref().filter(|_| self.validity.is_none());
        by_key.is_some_and(|device| !settings.has_key(device))
    }
}

impl Shard {
    /// Close what a revocation names; how many there were. All of them have been told and closed when this returns.
    pub(super) fn expel_revoked(&mut self, revocation: &Revocation) -> usize {
        let closed = self.expel(|seat| {
            let certificate = seat.validity.as_ref().map(|v| &v.sha256);
            revocation.names(seat.device.as_deref(), certificate)
        });
        self.flush_all();
        self.forward_events();
        closed
    }

    /// Close whoever would not be let in any more by the settings in force.
    pub(super) fn expel_unwelcome(&mut self) {
        let (settings, shared) = (self.shared.settings(), std::sync::Arc::clone(&self.shared));
        self.expel(|seat| {
            let certificate = seat.validity.as_ref().map(|v| &v.sha256);
            shared.standing.denylist.names(seat.device.as_deref(), certificate)
                || seat.user.as_deref().is_some_and(|user| !settings.users.knows(user))
                || seat.lost_key(&settings)
        });
    }

    fn expel(&mut self, is_unwelcome: impl Fn(&Seat) -> bool) -> usize {
        let now = self.now();
        let mut closed = 0;
        for seat in self.seats.iter().flatten().filter(|seat| is_unwelcome(seat)) {
            let sentence = match (&seat.device, &seat.user) {
                (Some(device), _) => format!("device {device} or its certificate was revoked"),
                (None, Some(user)) => format!("user {user} was removed"),
                (None, None) => "client was revoked".into(),
            };
            let cause = EndCause::Revoked(sentence);
            closed += usize::from(
                self.engine
                    .disconnect(now, seat.id, ReasonCode::AdministrativeAction, cause),
            );
        }
        closed
    }

    /// Close whoever came with a certificate that has ended since.
    pub(super) fn end_expired(&mut self, now: Millis) {
        while let Some(id) = self.expiries.take_ended() {
            self.engine
                .disconnect(now, id, ReasonCode::NotAuthorized, EndCause::CertificateExpired);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u32) -> ConnId {
        ConnId { index, generation: 1 }
    }

    fn until(ends_ms: u64) -> Validity {
        Validity {
            sha256: [0; 32],
            ends_ms,
        }
    }

    #[test]
    fn certificates_end_in_their_order_and_those_who_left_are_forgotten() {
        let mut expiries = Expiries::default();
        assert_eq!(expiries.wait(), None);
        let far = until(now_ms() + 86_400_000);
        for (index, validity) in [(1, until(7)), (2, until(5)), (3, until(6))] {
            expiries.await_end(&validity, id(index));
        }
        expiries.await_end(&far, id(4));
        assert_eq!(expiries.wait(), Some(Duration::ZERO));
        expiries.forget(&until(6), id(3));
        assert_eq!(expiries.take_ended(), Some(id(2)));
        assert_eq!(expiries.take_ended(), Some(id(1)));
        assert_eq!(expiries.take_ended(), None);
        assert_eq!(expiries.wait(), Some(LONGEST_WAIT));
        expiries.forget(&far, id(4));
        assert_eq!(expiries.wait(), None);
    }
}
