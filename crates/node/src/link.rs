//! One network connection: a socket, TLS or not, WebSocket or not [MQTT-4.2.0-1]. Bytes of MQTT come out and go in, and no
//! more is asked of a client than to speak it [MQTT-7.0.0-2] of 3.1.1.
//!
//! Refuses to know what the bytes mean, and keeps no buffer while nothing is under way.

use crate::gate::Place;
use crate::recording::{Direction, Tap};
use crate::ws::{self, Role};
use barren::{Records, Work};
use mio::net::TcpStream;
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use unbuffered::tls_is_over;

mod barren;
mod channel;
mod fault;
mod unbuffered;

pub use channel::Channel;
pub use fault::LinkFault;

/// Bytes read from a socket at once: a few full TLS records.
pub const READ_SIZE: usize = 64 * 1024;
/// Room for what an incomplete record left behind, before what is read now.
const CARRY: usize = 20 * 1024;
/// Plaintext encrypted for one write call.
const WRITE_SIZE: usize = 128 * 1024;
/// Bytes waiting for the network beyond which WebSocket control frames are no longer answered.
const PONGS_KEPT: usize = 64 * 1024;
/// The smallest limit on records that a peer can ask for (RFC 8449 section 4).
pub const SMALLEST_RECORD: usize = 64;
/// Reads of one call that throws away what it reads; whoever sends more than that has had his turn.
const DISCARDS: usize = 8;
/// A TLS record holds at most this much plaintext.
const RECORD: usize = 16 * 1024;
/// More than any record adds: header, nonce, tag, content type.
const RECORD_OVERHEAD: usize = 64;

/// Room for the records of `plain` bytes, also where a peer asked for the smallest.
const fn sealed_size(plain: usize) -> usize {
    plain + (plain / SMALLEST_RECORD + 1) * RECORD_OVERHEAD
}

/// Buffers of one thread, lent to each connection in turn.
pub struct Scratch {
    cipher: Vec<u8>,
    /// Plaintext of the read under way.
    pub plain: Vec<u8>,
    frames: Vec<u8>,
    send: Vec<u8>,
}

impl Scratch {
    pub fn new() -> Scratch {
        Scratch {
            cipher: vec![0; CARRY + READ_SIZE],
            plain: Vec::with_capacity(READ_SIZE),
            frames: Vec::new(),
            send: vec![0; sealed_size(WRITE_SIZE)],
        }
    }
}

/// What one read found; the MQTT bytes are in [`Scratch::plain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOutcome {
    /// Ciphertext bytes taken from the socket.
    pub received: usize,
    pub ended: Option<Ended>,
    /// The socket may have more.
    pub more: bool,
}

/// What TLS made of bytes.
struct Decrypted {
    /// Bytes that are done with.
    used: usize,
    /// Records that held data.
    carrying: usize,
    ended: Option<Ended>,
}

/// How the peer ended its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// TLS close_notify, or a WebSocket close.
    Cleanly,
    /// The TCP connection ended without a word.
    Abruptly,
}

pub struct Link {
    pub stream: TcpStream,
    pub tls: Option<Channel>,
    ws: Option<Box<ws::Decoder>>,
    /// The start of a TLS record whose rest has not arrived.
    incoming: Vec<u8>,
    records: Records,
    /// Bytes for the network that it was not given, or did not take yet.
    outgoing: Vec<u8>,
    /// It did not take them.
    is_blocked: bool,
    /// Bytes of MQTT in one record.
    record_limit: usize,
    /// TLS has said its last word, an alert or close_notify: it is not asked again.
    is_tls_over: bool,
    /// Our side of the connection is over.
    is_finished: bool,
    /// While a recording is waited for.
    pub tap: Option<Box<Tap>>,
    /// Among the connections of its address, for as long as it lasts.
    _place: Place,
    /// The peer has ended its side. Told together with its last bytes, and only once: who reads those reads on to the end.
    pub is_read_closed: bool,
}

impl Link {
    pub fn new(stream: TcpStream, place: Place) -> Link {
        Link {
            stream,
            tls: None,
            ws: None,
            incoming: Vec::new(),
            records: Records::default(),
            outgoing: Vec::new(),
            is_blocked: false,
            record_limit: RECORD,
            is_tls_over: false,
            is_finished: false,
            tap: None,
            _place: place,
            is_read_closed: false,
        }
    }

    /// Speak TLS from now on, in records of at most that many bytes of plaintext, if the peer asked for a limit.
    pub fn speak_tls(&mut self, channel: Channel, record_limit: Option<usize>) {
        self.tls = Some(channel);
        self.record_limit = record_limit.unwrap_or(RECORD).clamp(SMALLEST_RECORD, RECORD);
    }

    pub fn speak_websocket(&mut self, max_message: usize) {
        self.ws = Some(Box::new(ws::Decoder::new(Role::Server, max_message)));
    }

    /// Bytes that wait for [`Link::flush`], or for the network.
    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// The network did not take all bytes, and will say when it takes more.
    pub fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Bytes of an unfinished record or ClientHello.
    pub fn incoming(&self) -> &[u8] {
        &self.incoming
    }

    /// Read from the socket without any decoding, appending to what [`Link::incoming`] shows; at most `limit` in all.
    pub fn read_raw(&mut self, scratch: &mut Scratch, limit: usize) -> io::Result<ReadOutcome> {
        let room = limit.saturating_sub(self.incoming.len()).min(READ_SIZE);
        let space = scratch.cipher.get_mut(..room).unwrap_or_default();
        match self.stream.read(space) {
            Ok(0) => Ok(ReadOutcome {
                received: 0,
                ended: Some(Ended::Abruptly),
                more: false,
            }),
            Ok(n) => {
                let bytes = space.get(..n).unwrap_or_default();
                note(&mut self.tap, Direction::In, bytes);
                self.incoming.extend_from_slice(bytes);
                Ok(ReadOutcome {
                    received: n,
                    ended: None,
                    more: n == room || self.is_read_closed,
                })
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(ReadOutcome {
                received: 0,
                ended: None,
                more: false,
            }),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(ReadOutcome {
                received: 0,
                ended: None,
                more: true,
            }),
            Err(e) => Err(e),
        }
    }

    /// Read once from the socket and decode; MQTT bytes are appended to `scratch.plain`. What TLS wants to say is
    /// queued, send it with [`Link::flush`].
    pub fn read(&mut self, scratch: &mut Scratch) -> Result<ReadOutcome, LinkFault> {
        let carried = self.incoming.len();
        if carried > 0 {
            // Fragments of one handshake message stay until it is whole; the library bounds them at 64 KiB.
            if scratch.cipher.len() < carried + READ_SIZE {
                scratch.cipher.resize(carried + READ_SIZE, 0);
            }
            if let Some(front) = scratch.cipher.get_mut(..carried) {
                front.copy_from_slice(&self.incoming);
            }
            self.incoming.clear();
        }
        let space = scratch.cipher.get_mut(carried..carried + READ_SIZE).unwrap_or_default();
        let (received, mut ended) = match self.stream.read(space) {
            Ok(0) => (0, Some(Ended::Abruptly)),
            Ok(n) => (n, None),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => (0, None),
            Err(e) => return Err(LinkFault::Io(e)),
        };
        note(
            &mut self.tap,
            Direction::In,
            scratch.cipher.get(carried..carried + received).unwrap_or_default(),
        );
        let mut cipher = std::mem::take(&mut scratch.cipher);
        let decoded = self.decode(
            cipher.get_mut(..carried + received).unwrap_or_default(),
            carried,
            scratch,
        );
        scratch.cipher = cipher;
        if let Some(how) = decoded? {
            ended = Some(how);
        }
        Ok(ReadOutcome {
            received,
            ended,
            more: received == READ_SIZE || (received > 0 && self.is_read_closed),
        })
    }

    /// Decode what [`Link::read_raw`] collected, now that it is known to be TLS.
    pub fn decode_incoming(&mut self, scratch: &mut Scratch) -> Result<Option<Ended>, LinkFault> {
        let mut bytes = std::mem::take(&mut self.incoming);
        self.decode(&mut bytes, 0, scratch)
    }

    /// The first `carried` of these bytes were here before.
    fn decode(&mut self, bytes: &mut [u8], carried: usize, scratch: &mut Scratch) -> Result<Option<Ended>, LinkFault> {
        if self.ws.is_none() {
            return self.decrypt_contained(bytes, carried, &mut scratch.plain);
        }
        let mut frames = std::mem::take(&mut scratch.frames);
        frames.clear();
        let ended = self.decrypt_contained(bytes, carried, &mut frames);
        let outcome = ended.and_then(|ended| {
            let unframed = self.unframe(&mut frames, &mut scratch.plain)?;
            Ok(ended.or(unframed))
        });
        scratch.frames = frames;
        outcome
    }

    /// Take WebSocket frames apart, also those that arrived together with the upgrade request.
    pub fn unframe(&mut self, frames: &mut [u8], plain: &mut Vec<u8>) -> Result<Option<Ended>, LinkFault> {
        let Some(decoder) = &mut self.ws else { return Ok(None) };
        let mut control = Vec::new();
        let decoded = decoder.decode(frames, plain, &mut control);
        if let Err(fault) = &decoded {
            ws::encode_close(Role::Server, fault.code(), &mut control);
        }
        // A peer that pings and does not read gets no more pongs: an older one may be left out (RFC 6455 section 5.5.3).
        if !control.is_empty() && self.outgoing.len() < PONGS_KEPT {
            self.encrypt(&control)?;
        }
        let decoded = decoded.map_err(LinkFault::WebSocket)?;
        Ok(decoded.closed.map(|_| Ended::Cleanly))
    }

    /// A panic of the TLS library costs this connection, not the thread and everybody on it.
    fn decrypt_contained(
        &mut self,
        bytes: &mut [u8],
        carried: usize,
        plain: &mut Vec<u8>,
    ) -> Result<Option<Ended>, LinkFault> {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.decrypt(bytes, carried, plain)));
        outcome.unwrap_or_else(|_| {
            self.is_tls_over = true;
            Err(LinkFault::Panicked)
        })
    }

    /// Run TLS over `bytes`; plaintext goes to `plain`, an unfinished record is kept.
    fn decrypt(&mut self, bytes: &mut [u8], carried: usize, plain: &mut Vec<u8>) -> Result<Option<Ended>, LinkFault> {
        let Some(tls) = &mut self.tls else {
            plain.extend_from_slice(bytes);
            return Ok(None);
        };
        let (was_handshaking, waiting) = (tls.is_handshaking(), self.outgoing.len());
        let begun = self.records.pass(bytes.get(carried..).unwrap_or_default());
        let decoded = tls.decrypt(bytes, plain, &mut self.outgoing);
        self.is_tls_over |= matches!(decoded, Err(LinkFault::Tls(_) | LinkFault::Psk(_)));
        let Decrypted { used, carrying, ended } = decoded?;
        self.incoming.extend_from_slice(bytes.get(used..).unwrap_or_default());
        if !was_handshaking {
            let waiting = [waiting, self.outgoing.len()];
            let work = Work {
                begun,
                carrying,
                unfinished: self.incoming.len(),
                waiting,
            };
            work.judge()?;
        }
        Ok(ended)
    }

    /// Send MQTT bytes; how many of them were taken. 0 while the network is behind.
    pub fn write(&mut self, plain: &[u8], scratch: &mut Scratch) -> Result<usize, LinkFault> {
        let mut taken = 0;
        while taken < plain.len() {
            if self.is_blocked && !self.flush().map_err(LinkFault::Io)? {
                break;
            }
            let chunk = plain.get(taken..).unwrap_or_default();
            let chunk = chunk.get(..WRITE_SIZE - RECORD).unwrap_or(chunk);
            if self.ws.is_some() {
                let mut frames = std::mem::take(&mut scratch.frames);
                frames.clear();
                ws::encode_binary(Role::Server, chunk, &mut frames);
                let sent = self.send(&frames, &mut scratch.send);
                scratch.frames = frames;
                sent?;
            } else {
                self.send(chunk, &mut scratch.send)?;
            }
            taken += chunk.len();
        }
        Ok(taken)
    }

    /// Encrypt and write at once; what the network does not take is kept.
    fn send(&mut self, plain: &[u8], buffer: &mut [u8]) -> Result<(), LinkFault> {
        let bytes: &[u8] = match &mut self.tls {
            None => plain,
            Some(tls) if !self.is_tls_over => {
                let encrypted = tls.encrypt(&mut self.incoming, plain, self.record_limit, buffer, &mut self.outgoing);
                self.is_tls_over = encrypted.is_err();
                buffer.get(..encrypted?).unwrap_or_default()
            }
            Some(_) => return Err(LinkFault::Tls(tls_is_over())),
        };
        if !self.outgoing.is_empty() {
            // Something of the handshake (a ticket, a key update) has to go first, and goes together with it.
            self.outgoing.extend_from_slice(bytes);
            self.flush().map_err(LinkFault::Io)?;
            return Ok(());
        }
        let written = write_some(&mut self.stream, bytes).map_err(LinkFault::Io)?;
        note(&mut self.tap, Direction::Out, bytes.get(..written).unwrap_or_default());
        self.outgoing
            .extend_from_slice(bytes.get(written..).unwrap_or_default());
        self.is_blocked = !self.outgoing.is_empty();
        Ok(())
    }

    /// Queue bytes for [`Link::flush`], encrypted.
    fn encrypt(&mut self, plain: &[u8]) -> Result<(), LinkFault> {
        match &mut self.tls {
            None => self.outgoing.extend_from_slice(plain),
            Some(tls) if !self.is_tls_over => {
                let mut buffer = vec![0; sealed_size(plain.len())];
                let encrypted = tls.encrypt(
                    &mut self.incoming,
                    plain,
                    self.record_limit,
                    &mut buffer,
                    &mut self.outgoing,
                );
                self.is_tls_over = encrypted.is_err();
                self.outgoing
                    .extend_from_slice(buffer.get(..encrypted?).unwrap_or_default());
            }
            Some(_) => return Err(LinkFault::Tls(tls_is_over())),
        }
        Ok(())
    }

    /// Queue bytes that are not MQTT: an HTTP answer.
    pub fn queue(&mut self, plain: &[u8]) -> Result<(), LinkFault> {
        self.encrypt(plain)
    }

    /// Queue bytes that go out as they are: an alert before TLS began.
    pub fn queue_raw(&mut self, bytes: &[u8]) {
        self.outgoing.extend_from_slice(bytes);
    }

    /// Write what is queued; `true` when nothing is left.
    pub fn flush(&mut self) -> io::Result<bool> {
        if self.outgoing.is_empty() {
            return Ok(true);
        }
        let written = write_some(&mut self.stream, &self.outgoing)?;
        note(
            &mut self.tap,
            Direction::Out,
            self.outgoing.get(..written).unwrap_or_default(),
        );
        self.is_blocked = written < self.outgoing.len();
        if !self.is_blocked {
            // Given back: an idle connection keeps no buffer.
            self.outgoing = Vec::new();
            return Ok(true);
        }
        self.outgoing.drain(..written);
        Ok(false)
    }

    /// Say goodbye: WebSocket close and close_notify are queued; [`Link::finish`] sends them.
    pub fn shut(&mut self) {
        if self.ws.is_some() {
            let mut close = Vec::new();
            ws::encode_close(Role::Server, 1000, &mut close);
            let _ = self.encrypt(&close);
        }
        if let Some(tls) = &mut self.tls
            && !self.is_tls_over
        {
            self.is_tls_over = true;
            tls.close(&mut self.incoming, &mut self.outgoing);
        }
    }

    /// Send what is queued and end our side; `false` while the network has not taken all of it.
    pub fn finish(&mut self) -> io::Result<bool> {
        if !self.flush()? {
            return Ok(false);
        }
        // Once: the poll tells of each anew, and so there would be no end to it until the peer closes.
        if !self.is_finished {
            self.stream.shutdown(std::net::Shutdown::Write)?;
            self.is_finished = true;
        }
        Ok(true)
    }

    /// Read and throw away, so that closing does not reset what was just said. `true` when the peer is done.
    pub fn discard(&mut self, scratch: &mut Scratch) -> bool {
        for _ in 0..DISCARDS {
            match self.stream.read(&mut scratch.cipher) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return e.kind() != io::ErrorKind::WouldBlock,
            }
        }
        false
    }
}

#[inline]
fn note(tap: &mut Option<Box<Tap>>, direction: Direction, bytes: &[u8]) {
    if let Some(tap) = tap {
        tap.note(direction, bytes);
    }
}

/// Write until done or until the network takes no more; how much went.
fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|r| !r.is_empty()) {
        match stream.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => written += n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(written)
}
