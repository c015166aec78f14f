//! What happens to one connection in the gate, step by step: first bytes, handshake, upgrade, CONNECT.
//!
//! Each step takes what has arrived and either goes on, waits for more, or ends in a refusal.

use super::causes::{
    bad_connect, closed_early, defect, internal, too_much_before_connect, too_much_handshake, unfinished,
};
use super::credentials::credentials;
use super::keys::{NO_KEY_ALERT, accept, from_psk, no_key};
use super::{Gate, Pending, Step, TlsFacts};
use crate::certificate::{self, IdentityFault};
use crate::config::ListenerKind;
use crate::denylist::Denylist;
use crate::event::now_ms;
use crate::hello::{ClientHello, HelloLimits, Sniff, alert_record, sniff};
use crate::http::{HttpLimits, Upgrade, UpgradeRules, upgrade};
use crate::link::{Channel, Ended, LinkFault, ReadOutcome};
use crate::node::Settings;
use crate::psk;
use crate::recording::take_keys;
use crate::refusal::{Refusal, Stage};
use crate::tls;
use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use sealmq_codec::{Connect, Fault, Frame, Framed, ReasonCode, frame};
use sealmq_engine::refusal_bytes;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Socket reads of one connection in one turn.
const READS_PER_TURN: usize = 8;

impl Gate {
    /// Something happened on a connection: go as far as the bytes allow.
    pub(super) fn advance(&mut self, key: usize) {
        for _ in 0..READS_PER_TURN {
            let Some(pending) = self.pending.get_mut(key) else {
                return;
            };
            if let Err(error) = pending.link.flush() {
                return match pending.step {
                    Step::Leaving => self.drop_pending(key),
                    step => {
                        let left = unfinished(step, &LinkFault::Io(error).sentence(), pending.received);
                        self.refuse(key, left);
                    }
                };
            }
            let outcome = match pending.step {
                Step::Leaving => {
                    let _ = pending.link.finish();
                    if pending.link.discard(&mut self.scratch) {
                        self.drop_pending(key);
                    }
                    return;
                }
                // What it sends meanwhile waits in the socket; its seat in the shard looks there again.
                Step::Login => return,
                Step::Hello => self.read_hello(key),
                Step::Handshake | Step::Http | Step::Connect => self.read(key),
            };
            match outcome {
                Ok(true) => {}
                Ok(false) => return,
                Err(refusal) => return self.refuse(key, refusal),
            }
        }
        // There is more, and its event is spent: the others have their turn first.
        self.wait_for_turn(key);
    }

    /// The first bytes, before TLS is trusted with them. `true`: look again.
    fn read_hello(&mut self, key: usize) -> Result<bool, Refusal> {
        let Some(pending) = self.pending.get_mut(key) else {
            return Ok(false);
        };
        let limits = HelloLimits::default();
        let outcome = pending
            .link
            .read_raw(&mut self.scratch, limits.total)
            .map_err(|e| closed_early(&LinkFault::Io(e).sentence(), pending.link.incoming().len()))?;
        pending.hear(outcome.received);
        match sniff(pending.link.incoming(), limits) {
            Sniff::NeedMore if outcome.ended.is_some() => Err(closed_early(
                "peer closed the connection",
                pending.link.incoming().len(),
            )),
            Sniff::NeedMore => Ok(outcome.more),
            Sniff::NotTls(found) => {
                // A TLS alert tells an SSL library more than a bare close would; others ignore it.
                Err(Refusal::new(
                    Stage::ClientHello,
                    found.slug(),
                    found.sentence(),
                    found.mend(),
                ))
            }
            Sniff::Malformed(fault) => {
                pending.link.queue_raw(&alert_record(fault.alert()));
                Err(Refusal::new(
                    Stage::ClientHello,
                    fault.slug(),
                    fault.sentence(),
                    fault.mend(),
                ))
            }
            Sniff::Hello(hello) => {
                let kind = self
                    .listeners
                    .get(pending.listener)
                    .map_or(ListenerKind::Mqtts, |l| l.kind);
                let is_psk = kind == ListenerKind::Psk;
                let policy = if is_psk { psk::policy(&hello) } else { tls::policy(kind) };
                let verdict = hello.judge(&policy);
                let hello = pending.hello.insert(hello);
                if is_psk && !psk::offers_psk(hello) {
                    pending.link.queue_raw(&alert_record(NO_KEY_ALERT));
                    return Err(no_key());
                }
                if let Some(alert) = verdict.alert() {
                    pending.link.queue_raw(&alert_record(alert));
                    return Err(Refusal::new(
                        Stage::Handshake,
                        verdict.slug(),
                        verdict.sentence(),
                        verdict.mend(),
                    ));
                }
                let channel = channel(&pending.settings, kind, hello, pending.link.tap.is_some())?;
                pending.link.speak_tls(channel, hello.record_limit());
                pending.step = Step::Handshake;
                self.scratch.plain.clear();
                tls::forget_last_seen();
                let ended = pending.link.decode_incoming(&mut self.scratch);
                let decoded = ended.map(|ended| ReadOutcome {
                    received: 0,
                    ended,
                    more: false,
                });
                // What the first look did not take from the socket is still there, and its event is spent.
                self.after_tls(key, decoded).map(|_| outcome.more)
            }
        }
    }

    /// Bytes of a handshake or after it. `true`: there may be more.
    fn read(&mut self, key: usize) -> Result<bool, Refusal> {
        let Some(pending) = self.pending.get_mut(key) else {
            return Ok(false);
        };
        self.scratch.plain.clear();
        tls::forget_last_seen();
        let outcome = pending.link.read(&mut self.scratch);
        self.after_tls(key, outcome)
    }

    fn after_tls(&mut self, key: usize, outcome: Result<ReadOutcome, LinkFault>) -> Result<bool, Refusal> {
        let Some(pending) = self.pending.get_mut(key) else {
            return Ok(false);
        };
        let fleet = Arc::clone(&pending.settings);
        if let Some(tap) = &mut pending.link.tap {
            tap.add_keys(take_keys());
        }
        if let Some(seen) = tls::last_seen() {
            // What is read here may have been refused before anybody else read it.
            let read = catch_unwind(AssertUnwindSafe(|| certificate::facts(&seen, &fleet.fleet)));
            pending.certificate = read.ok().flatten();
        }
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(LinkFault::Tls(e)) => return Err(Refusal::from_tls(&e, pending.certificate.as_deref())),
            Err(LinkFault::Psk(fault)) => return Err(from_psk(&fault)),
            Err(LinkFault::Panicked) => return Err(defect(&LinkFault::Panicked.sentence())),
            Err(other) => return Err(unfinished(pending.step, &other.sentence(), pending.received)),
        };
        pending.hear(outcome.received);
        pending.plain.extend_from_slice(&self.scratch.plain);
        let most = pending.settings.limits.max_handshake_bytes;
        if pending.step == Step::Handshake
            && pending.received > most as usize
            && pending.link.tls.as_ref().is_some_and(Channel::is_handshaking)
        {
            return Err(too_much_handshake(pending.received, most));
        }
        if pending.step == Step::Handshake && pending.link.tls.as_ref().is_some_and(|t| !t.is_handshaking()) {
            self.finish_handshake(key);
        }
        self.use_plain(key)?;
        // Whoever is on his way to his shard gets the ticket together with the CONNACK.
        let Some(pending) = self.pending.get_mut(key) else {
            return Ok(false);
        };
        let _ = pending.link.flush();
        let limits = &pending.settings.limits;
        // Twice a CONNECT: what TLS and WebSocket put around it.
        let most = limits.max_handshake_bytes as usize + 2 * limits.max_connect_bytes as usize;
        if matches!(pending.step, Step::Http | Step::Connect) && pending.received > most {
            return Err(too_much_before_connect(pending.received));
        }
        match outcome.ended {
            Some(how) if pending.step != Step::Leaving => {
                let said = if how == Ended::Cleanly {
                    "peer said goodbye"
                } else {
                    "peer closed the connection"
                };
                Err(unfinished(pending.step, said, pending.received))
            }
            _ => Ok(outcome.received > 0 && outcome.more),
        }
    }

    /// The channel is secure: who is it?
    fn finish_handshake(&mut self, key: usize) {
        let Some(pending) = self.pending.get_mut(key) else {
            return;
        };
        let Some(channel) = &pending.link.tls else { return };
        let facts = TlsFacts::of(channel);
        let counter = if facts.resumed {
            &self.shared.counters.handshakes_resumed
        } else {
            &self.shared.counters.handshakes_full
        };
        counter.fetch_add(1, Ordering::Relaxed);
        pending.tls = Some(facts);
        match channel {
            Channel::Certificate(server) => {
                if let Some(leaf) = server.peer_certificates().and_then(|chain| chain.first()).cloned() {
                    identify(pending, &leaf, &self.shared.standing.denylist);
                }
            }
            Channel::PreSharedKey(psk) => {
                pending.device = psk.device().map(Arc::clone);
                // Revoked since the key was looked up.
                let denied = |id: &&Arc<str>| self.shared.standing.denylist.names(Some(id), None);
                pending.verdict = pending
                    .device
                    .as_ref()
                    .filter(denied)
                    .map(|id| Refusal::revoked_key(id));
            }
        }
        let kind = self.listeners.get(pending.listener).map(|l| l.kind);
        pending.step = if kind == Some(ListenerKind::Wss) {
            Step::Http
        } else {
            Step::Connect
        };
        let timeout = u64::from(pending.settings.limits.connect_timeout_ms);
        pending.deadline = Instant::now() + Duration::from_millis(timeout);
    }

    /// Decoded bytes: an upgrade request, then a CONNECT.
    fn use_plain(&mut self, key: usize) -> Result<(), Refusal> {
        let Some(pending) = self.pending.get_mut(key) else {
            return Ok(());
        };
        if pending.step == Step::Http && !pending.plain.is_empty() {
            let rules = UpgradeRules {
                path: "/mqtt",
                origins: &pending.settings.origins,
                limits: HttpLimits::default(),
            };
            match upgrade(&pending.plain, &rules) {
                Upgrade::NeedMore => {}
                Upgrade::Accept { consumed, response } => {
                    pending
                        .link
                        .queue(&response)
                        .map_err(|e| unfinished(Step::Http, &e.sentence(), 0))?;
                    pending
                        .link
                        .speak_websocket(pending.settings.limits.max_packet_size as usize * 2);
                    let mut frames = pending.plain.split_off(consumed);
                    pending.plain.clear();
                    let unframed = pending.link.unframe(&mut frames, &mut pending.plain);
                    pending.step = Step::Connect;
                    let _ = pending.link.flush();
                    let received = pending.received;
                    if unframed
                        .map_err(|e| unfinished(Step::Connect, &e.sentence(), received))?
                        .is_some()
                    {
                        return Err(unfinished(Step::Connect, "peer closed the WebSocket", received));
                    }
                }
                Upgrade::Refuse {
                    response,
                    cause,
                    sentence,
                    mend,
                } => {
                    let _ = pending.link.queue(&response);
                    return Err(Refusal::new(Stage::Http, cause, sentence, mend));
                }
            }
        }
        if pending.step != Step::Connect || pending.plain.is_empty() {
            return Ok(());
        }
        // [MQTT-3.1.0-1]: told by its first byte, however long the packet claims to be
        if pending.plain.first().is_some_and(|&first| first >> 4 != 1) {
            return Err(Refusal::new(
                Stage::Connect,
                "not-connect",
                "first packet is not CONNECT",
                "speak MQTT 3.1.1 or 5.0 on this port, beginning with CONNECT",
            ));
        }
        let limits = &pending.settings.limits;
        match frame(&pending.plain, limits.max_connect_bytes.min(limits.max_packet_size)) {
            Ok(Framed::Need(_)) => Ok(()),
            Ok(Framed::Whole(whole)) => match decoded(whole) {
                Ok(_) if whole.first & 0x0f != 0 => Err(bad_connect(Fault::BadFixedHeaderFlags {
                    packet_type: 1,
                    flags: whole.first & 0x0f,
                })),
                Ok(connect) => {
                    let admitted = match pending.verdict.take() {
                        Some(refusal) => Err(refusal),
                        None => credentials(pending, &connect),
                    };
                    let size = whole.size;
                    match admitted {
                        Ok(None) => self.hand_over(key, size),
                        Ok(Some(login)) => self.log_in(key, size, login)?,
                        Err(refusal) => {
                            let bytes = refusal_bytes(&connect, ReasonCode::NotAuthorized, &refusal.summary);
                            let _ = pending.link.queue(&bytes);
                            return Err(refusal);
                        }
                    }
                    Ok(())
                }
                Err(fault) => {
                    if matches!(fault, Fault::UnsupportedProtocolLevel(_)) {
                        // [MQTT-3.1.2-2]: the form of 3.1.1, which older clients read
                        let _ = pending.link.queue(&[0x20, 0x02, 0x00, 0x01]);
                    }
                    Err(bad_connect(fault))
                }
            },
            // [MQTT-3.1.4-1]
            Err(fault) => Err(bad_connect(fault)),
        }
    }
}

/// TLS as this listener speaks it, for a client that opens like this.
fn channel(
    settings: &Settings,
    kind: ListenerKind,
    hello: &ClientHello,
    is_recorded: bool,
) -> Result<Channel, Refusal> {
    if kind == ListenerKind::Psk {
        return accept(settings, hello, is_recorded);
    }
    let config = match is_recorded {
        true => settings.tls_recorded(kind, hello),
        false => settings.tls(kind, hello),
    };
    let config = config.ok_or_else(|| defect("listener without TLS was opened with a ClientHello"))?;
    let server = UnbufferedServerConnection::new(config).map_err(|e| internal(&e))?;
    Ok(Channel::Certificate(Box::new(server)))
}

/// Whose certificate it is, and whether he may come in with it.
fn identify(pending: &mut Pending, leaf: &CertificateDer<'_>, denylist: &Denylist) {
    let fleet = &pending.settings.fleet;
    pending.certificate = certificate::facts(leaf, fleet);
    let facts = pending.certificate.as_deref();
    match facts.map_or(&Err(IdentityFault::Unreadable), |facts| &facts.device) {
        Ok(id) => pending.device = Some(Arc::clone(id)),
        Err(fault) => {
            pending.verdict = Some(Refusal::new(
                Stage::Certificate,
                fault.slug(),
                fault.sentence(fleet),
                fault.mend(fleet),
            ));
        }
    }
    // A resumed session brings the certificate of its first handshake, which was not verified now. Its ticket was
    // looked at when it was opened; what counts is what is looked at here.
    if let Some(facts) = &pending.certificate {
        if denylist.denies(facts) {
            pending.verdict = Some(Refusal::revoked(facts));
        } else if facts.ends_ms() <= now_ms() {
            pending.verdict = Some(Refusal::expired(facts));
        }
    }
}

fn decoded(whole: Frame<'_>) -> Result<Connect<'_>, Fault> {
    let connect = Connect::decode(whole.body)?;
    whole.check_length(connect.version)?;
    Ok(connect)
}
