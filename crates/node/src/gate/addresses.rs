//! How many connections each address has, and how fast it opens them: looked at before a byte is read.
//!
//! Refuses to know what a connection is for. An address is one of IPv4, or the first 64 bits of one of IPv6, which is what
//! one site has.

use crate::config::NodeLimits;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often one address is told of in the log; what comes in between is counted.
const TOLD_EVERY: Duration = Duration::from_secs(1);
/// Addresses that may be remembered without a connection before those that are not needed are thrown out.
const REMEMBERED: usize = 1024;

/// Why a connection is turned away before a byte is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objection {
    /// The broker has all the connections that it may have.
    Broker,
    /// This address has.
    Address,
    /// This address opens them too fast.
    Pace,
    /// There is no memory for another one.
    Memory,
}

/// Turned away; `told` is how many there were since this address was last told of, `None` when it is not time to tell yet.
#[derive(Debug, PartialEq, Eq)]
pub struct TurnedAway {
    pub objection: Objection,
    pub told: Option<u64>,
}

#[derive(Default)]
pub struct Addresses {
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    live: usize,
    by_site: HashMap<IpAddr, Entry>,
    swept: Option<Instant>,
}

struct Entry {
    live: u32,
    /// Connections that it may open now, and since when that is so.
    credit: f64,
    since: Instant,
    told_at: Option<Instant>,
    untold: u64,
}

impl Entry {
    /// A token bucket that holds one second's worth.
    fn is_too_fast(&mut self, now: Instant, rate: u32) -> bool {
        let rate = f64::from(rate);
        let earned = now.saturating_duration_since(self.since).as_secs_f64() * rate;
        self.credit = (self.credit + earned).min(rate);
        self.since = now;
        if self.credit < 1.0 {
            return true;
        }
        self.credit -= 1.0;
        false
    }

    fn tell(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        let is_time = self.told_at.is_none_or(|at| now.duration_since(at) >= TOLD_EVERY);
        is_time.then(|| {
            self.told_at = Some(now);
            std::mem::take(&mut self.untold)
        })
    }
}

impl Addresses {
    /// Connections there are, those included that are on their way out.
    pub fn live(&self) -> usize {
        self.book().live
    }

    /// A connection from `peer`: its place for as long as it lasts, or why there is none. `general` is what stands against
    /// everybody now.
    pub fn admit(
        self: &Arc<Self>,
        peer: IpAddr,
        now: Instant,
        limits: &NodeLimits,
        general: Option<Objection>,
    ) -> Result<Place, TurnedAway> {
        let site = site_of(peer);
        let mut book = self.book();
        book.forget_idle(now);
        let is_full = book.live >= limits.max_connections as usize;
        let (rate, most) = (limits.max_connect_rate_per_address, limits.max_connections_per_address);
        let entry = book.by_site.entry(site).or_insert_with(|| Entry {
            live: 0,
            credit: f64::from(rate),
            since: now,
            told_at: None,
            untold: 0,
        });
        let objection = if rate > 0 && entry.is_too_fast(now, rate) {
            Objection::Pace
        } else if let Some(general) = general {
            general
        } else if is_full {
            Objection::Broker
        } else if most > 0 && entry.live >= most {
            Objection::Address
        } else {
            entry.live += 1;
            book.live += 1;
            let addresses = Arc::clone(self);
            return Ok(Place { addresses, site });
        };
        let told = entry.tell(now);
        Err(TurnedAway { objection, told })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// A flood from ever new addresses leaves nothing behind for much longer than its credit takes to be whole again, and is
    /// not made dearer by a look at all of them for each.
    fn forget_idle(&mut self, now: Instant) {
        let is_fresh = |since: Instant| now.saturating_duration_since(since) < TOLD_EVERY;
        if self.by_site.len() > REMEMBERED + 2 * self.live && !self.swept.is_some_and(is_fresh) {
            self.swept = Some(now);
            self.by_site.retain(|_, entry| entry.live > 0 || is_fresh(entry.since));
        }
    }
}

/// The place of one connection; free again when it is dropped.
pub struct Place {
    addresses: Arc<Addresses>,
    site: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut book = self.addresses.book();
        book.live -= 1;
        if let Some(entry) = book.by_site.get_mut(&self.site) {
            entry.live -= 1;
        }
    }
}

/// What counts as one address.
pub fn site_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(all: u32, each: u32, rate: u32) -> NodeLimits {
        NodeLimits {
            max_connections: all,
            max_connections_per_address: each,
            max_connect_rate_per_address: rate,
            ..NodeLimits::default()
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn objection(result: Result<Place, TurnedAway>) -> Option<Objection> {
        result.err().map(|away| away.objection)
    }

    #[test]
    fn places_are_counted_for_all_and_for_each_and_given_back() {
        let (addresses, now, limits) = (Arc::new(Addresses::default()), Instant::now(), limits(3, 2, 0));
        let admit = |text| addresses.admit(ip(text), now, &limits, None);
        let first = admit("192.0.2.1").expect("a place");
        let _second = admit("::ffff:192.0.2.1").expect("a place: the same address, written otherwise");
        assert_eq!(objection(admit("192.0.2.1")), Some(Objection::Address));
        let _third = admit("192.0.2.2").expect("a place");
        assert_eq!(objection(admit("192.0.2.3")), Some(Objection::Broker));
        drop(first);
        assert_eq!(addresses.live(), 2);
        assert!(admit("192.0.2.1").is_ok());
    }

    #[test]
    fn the_site_of_an_ipv6_address_is_its_first_64_bits() {
        let (addresses, now, limits) = (Arc::new(Addresses::default()), Instant::now(), limits(9, 1, 0));
        let admit = |text| addresses.admit(ip(text), now, &limits, None);
        let _place = admit("2001:db8::1").expect("a place");
        assert_eq!(objection(admit("2001:db8::ffff:1")), Some(Objection::Address));
        assert!(admit("2001:db8:0:1::1").is_ok());
    }

    #[test]
    fn who_opens_too_fast_waits_and_nobody_else_does() {
        let (addresses, limits) = (Arc::new(Addresses::default()), limits(1000, 0, 10));
        let began = Instant::now();
        let admit = |text, ms| addresses.admit(ip(text), began + Duration::from_millis(ms), &limits, None);
        let taken = (0..20).filter(|_| admit("192.0.2.1", 0).is_ok()).count();
        assert_eq!(taken, 10, "one second's worth at once");
        assert!(admit("192.0.2.2", 0).is_ok());
        assert_eq!(objection(admit("192.0.2.1", 50)), Some(Objection::Pace));
        assert!(admit("192.0.2.1", 200).is_ok());
        let later = (0..20).filter(|_| admit("192.0.2.1", 5_000).is_ok()).count();
        assert_eq!(later, 10, "credit does not grow without end");
    }

    #[test]
    fn one_address_is_told_of_once_a_second_with_a_count() {
        let (addresses, limits) = (Arc::new(Addresses::default()), limits(1000, 0, 1));
        let began = Instant::now();
        let told = |ms| {
            let away = addresses.admit(ip("192.0.2.1"), began + Duration::from_millis(ms), &limits, None);
            away.err().and_then(|away| away.told)
        };
        assert_eq!(told(0), None, "it was let in");
        assert_eq!([told(1), told(2), told(3), told(900)], [Some(1), None, None, None]);
        assert_eq!(told(1_000), None, "it was let in");
        assert_eq!(told(1_002), Some(4));
    }

    #[test]
    fn a_flood_from_ever_new_addresses_is_forgotten() {
        let (addresses, limits) = (Arc::new(Addresses::default()), limits(1000, 0, 10));
        let began = Instant::now();
        for n in 0..20_000u32 {
            let now = began + Duration::from_millis(u64::from(n));
            drop(addresses.admit(IpAddr::from(n.to_be_bytes()), now, &limits, None));
            assert!(addresses.book().by_site.len() < 4_000);
        }
    }
}
