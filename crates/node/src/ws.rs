//! Owns WebSocket framing for MQTT in both directions (RFC 6455 section 5, MQTT 5.0 section 6): frames to MQTT bytes and back.
//! Refuses to know sockets, HTTP and MQTT packets: a packet may span frames and a frame may hold several [MQTT-6.0.0-2].
//!
//! Order of calls: `decode` for every read, send what it left in `control`, hand `out` to the MQTT codec. After a fault:
//! `encode_close` with its code, then close the connection.

/// Which end of the connection this is.
#[derive(Debug, Clone, Copy)]
pub enum Role {
    /// Takes masked frames and sends bare ones.
    Server,
    /// Takes bare frames and masks each of its own with what `mask` returns: 4 fresh random bytes (RFC 6455 section 5.3).
    Client { mask: fn() -> [u8; 4] },
}

/// How the peer broke the framing. The decoder takes no more bytes after one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WsFault {
    ReservedBits,
    Opcode { opcode: u8 },
    TextFrame,
    UnmaskedFrame,
    MaskedFrame,
    FragmentedControl,
    OversizedControl,
    LonelyContinuation,
    InterruptedMessage,
    Length,
    MessageTooLong { limit: u32 },
    CloseFrame,
    CloseReason,
}

impl WsFault {
    /// The status code to close with (RFC 6455 section 7.4.1).
    pub fn code(&self) -> u16 {
        match self {
            Self::TextFrame => 1003,
            Self::CloseReason => 1007,
            Self::MessageTooLong { .. } => 1009,
            _ => 1002,
        }
    }

    pub fn slug(&self) -> &'static str {
        match self {
            Self::TextFrame => "websocket-text-frame",
            Self::MessageTooLong { .. } => "websocket-message-too-long",
            _ => "websocket-protocol-error",
        }
    }

    pub fn sentence(&self) -> String {
        let broken = match self {
            Self::ReservedBits => "has a reserved bit set and no extension was agreed",
            Self::Opcode { opcode } => return format!("WebSocket frame has the unknown opcode {opcode}"),
            Self::TextFrame => "carries text, MQTT needs binary frames",
            Self::UnmaskedFrame => "of the client is not masked",
            Self::MaskedFrame => "of the server is masked",
            Self::FragmentedControl => "for control is fragmented",
            Self::OversizedControl => "for control holds more than 125 bytes",
            Self::LonelyContinuation => "continues a message that was not begun",
            Self::InterruptedMessage => "begins a message before the last one ended",
            Self::Length => "writes its length in more bytes than it needs, or above 63 bits",
            Self::MessageTooLong { limit } => return format!("WebSocket message is longer than {limit} bytes"),
            Self::CloseFrame => "for close has half a status code, or one that must not be sent",
            Self::CloseReason => "for close has a reason that is not UTF-8",
        };
        format!("WebSocket frame {broken}")
    }
}

/// What one call of `decode` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of the input dealt with: all, or up to the end of a close frame, after which bytes mean nothing.
    pub consumed: usize,
    /// The peer closed with this status code; 1005 when it gave none.
    pub closed: Option<u16>,
}

/// The reading half of one connection. Payload is never kept; a frame header or control frame cut by the end of the
/// input is, on the heap, until it is whole.
#[derive(Debug)]
pub struct Decoder {
    role: Role,
    held: Option<Box<Held>>,
    max_message: u32,
    /// Payload bytes of the current data frame still to come.
    left: u32,
    /// Payload bytes of the current message, frames announced so far.
    used: u32,
    mask: [u8; 4],
    /// Where in `mask` the next payload byte falls.
    phase: u8,
    in_message: bool,
    over: bool,
}

const _: () = assert!(size_of::<Decoder>() <= 40, "every idle WebSocket connection holds one");

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Room for the longest control frame with the longest header.
const HELD: usize = 14 + 125;

#[derive(Debug)]
struct Held {
    bytes: [u8; HELD],
    len: usize,
}

struct Head {
    fin: bool,
    opcode: u8,
    /// Bytes of the header, and of the payload too in a control frame.
    size: usize,
    header: usize,
    length: u32,
    mask: [u8; 4],
}

enum Look {
    /// The frame can be judged once this many of its bytes are there; always more than were.
    Want(usize),
    Ready(Head),
}

impl Decoder {
    /// `max_message` bounds the payload of one message in bytes; it is taken as 4 GiB - 1 when larger.
    pub fn new(role: Role, max_message: usize) -> Self {
        Self {
            role,
            held: None,
            max_message: u32::try_from(max_message).unwrap_or(u32::MAX),
            left: 0,
            used: 0,
            mask: [0; 4],
            phase: 0,
            in_message: false,
            over: false,
        }
    }

    /// Take the bytes of one read, cut anywhere, and unmask them in place.
    ///
    /// Appends the payload of binary frames to `out` and the pongs and the close that answer the peer to `control`,
    /// which is never more than the input plus 4 bytes for each control frame. Raises `WsFault`; what `out` got
    /// before it stands.
    pub fn decode(&mut self, input: &mut [u8], out: &mut Vec<u8>, control: &mut Vec<u8>) -> Result<Decoded, WsFault> {
        let total = input.len();
        if self.over {
            return Ok(Decoded {
                consumed: total,
                closed: None,
            });
        }
        let mut rest = input;
        let mut closed = None;
        while closed.is_none() && (!rest.is_empty() || self.held.is_some()) {
            if self.left > 0 {
                rest = self.payload(rest, out);
                continue;
            }
            let seen = self.held.as_deref().map_or(&*rest, Held::filled);
            let look = self.look(seen).inspect_err(|_| self.over = true)?;
            let head = match look {
                Look::Want(want) => {
                    let held = self.held.get_or_insert_with(Held::empty);
                    rest = held.fill(want, rest);
                    if held.len < want {
                        break;
                    }
                    continue;
                }
                Look::Ready(head) => head,
            };
            let mut held = self.held.take();
            let frame = match &mut held {
                Some(held) => held.filled_mut(),
                None => {
                    let (frame, tail) = rest.split_at_mut(head.size);
                    rest = tail;
                    frame
                }
            };
            if head.opcode < CLOSE {
                self.begin_data(&head);
            } else {
                let payload = frame.get_mut(head.header..).unwrap_or_default();
                unmask(payload, head.mask, 0);
                closed = self
                    .handle_control(head.opcode, payload, control)
                    .inspect_err(|_| self.over = true)?;
            }
        }
        self.over = closed.is_some();
        Ok(Decoded {
            consumed: total - rest.len(),
            closed,
        })
    }

    /// Read and check the frame header at the start of `bytes` (RFC 6455 section 5.2).
    fn look(&self, bytes: &[u8]) -> Result<Look, WsFault> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(Look::Want(2));
        };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        let (masked, short) = (second & 0x80 != 0, second & 0x7f);
        if first & 0x70 != 0 {
            return Err(WsFault::ReservedBits);
        }
        match opcode {
            CONTINUATION if !self.in_message => return Err(WsFault::LonelyContinuation),
            BINARY if self.in_message => return Err(WsFault::InterruptedMessage),
            CLOSE..=PONG if !fin => return Err(WsFault::FragmentedControl), // section 5.4
            CLOSE..=PONG if short > 125 => return Err(WsFault::OversizedControl), // section 5.5
            CONTINUATION | BINARY | CLOSE..=PONG => {}
            TEXT => return Err(WsFault::TextFrame), // [MQTT-6.0.0-1]
            _ => return Err(WsFault::Opcode { opcode }),
        }
        match (self.role, masked) {
            (Role::Server, false) => return Err(WsFault::UnmaskedFrame), // section 5.1
            (Role::Client { .. }, true) => return Err(WsFault::MaskedFrame),
            _ => {}
        }
        let (extended, least) = match short {
            126 => (2, 126),
            127 => (8, 0x1_0000),
            _ => (0, 0),
        };
        let header = 2 + extended + if masked { 4 } else { 0 };
        let Some((numbers, _)) = rest.split_at_checked(header - 2) else {
            return Ok(Look::Want(header));
        };
        let (number, mask) = numbers.split_at_checked(extended).unwrap_or_default();
        let mut length = u64::from(short);
        if extended > 0 {
            length = number.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
            if length < least || length >> 63 != 0 {
                return Err(WsFault::Length);
            }
        }
        let too_long = WsFault::MessageTooLong {
            limit: self.max_message,
        };
        let length = u32::try_from(length).map_err(|_| too_long)?;
        let mut size = header;
        if opcode >= CLOSE {
            size += usize::from(short);
            if bytes.len() < size {
                return Ok(Look::Want(size));
            }
        } else if length > self.max_message - self.used {
            return Err(too_long);
        }
        let mask = mask.first_chunk().copied().unwrap_or_default();
        Ok(Look::Ready(Head {
            fin,
            opcode,
            size,
            header,
            length,
            mask,
        }))
    }

    fn begin_data(&mut self, head: &Head) {
        self.left = head.length;
        self.mask = head.mask;
        self.phase = 0;
        self.in_message = !head.fin;
        self.used = if head.fin { 0 } else { self.used + head.length };
    }

    /// Pass on what `input` has of the current data frame; what comes after it.
    fn payload<'a>(&mut self, input: &'a mut [u8], out: &mut Vec<u8>) -> &'a mut [u8] {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let (payload, rest) = input.split_at_mut(left.min(input.len()));
        unmask(payload, self.mask, self.phase);
        out.extend_from_slice(payload);
        let [.., low] = payload.len().to_be_bytes();
        self.phase = self.phase.wrapping_add(low) & 3;
        self.left = u32::try_from(left - payload.len()).unwrap_or(0);
        rest
    }

    /// The status code if this was a close.
    fn handle_control(&self, opcode: u8, payload: &[u8], control: &mut Vec<u8>) -> Result<Option<u16>, WsFault> {
        match opcode {
            PING => encode(self.role, PONG, payload, control),
            CLOSE => {
                let code = close_code(payload)?;
                encode_close(self.role, code, control);
                return Ok(Some(code));
            }
            _ => {}
        }
        Ok(None)
    }
}

impl Held {
    fn empty() -> Box<Self> {
        Box::new(Self {
            bytes: [0; HELD],
            len: 0,
        })
    }

    fn filled(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn filled_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.len).unwrap_or_default()
    }

    /// Take from `input` until `want` bytes are held; what is left of the input.
    fn fill<'a>(&mut self, want: usize, input: &'a mut [u8]) -> &'a mut [u8] {
        let room = self.bytes.get_mut(self.len..want).unwrap_or_default();
        let (taken, rest) = input.split_at_mut(room.len().min(input.len()));
        room.iter_mut().zip(&*taken).for_each(|(to, from)| *to = *from);
        self.len += taken.len();
        rest
    }
}

/// Append `payload` as one binary frame.
pub fn encode_binary(role: Role, payload: &[u8], out: &mut Vec<u8>) {
    encode(role, BINARY, payload, out);
}

/// Append a close frame with a status code, or without one for 1005, which must not be sent (RFC 6455 section 7.4.1).
pub fn encode_close(role: Role, code: u16, out: &mut Vec<u8>) {
    let code = code.to_be_bytes();
    let payload = if code == 1005_u16.to_be_bytes() {
        &[][..]
    } else {
        &code[..]
    };
    encode(role, CLOSE, payload, out);
}

fn encode(role: Role, opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(payload.len() + 14);
    out.push(0x80 | opcode);
    let (flag, mask) = match role {
        Role::Server => (0, None),
        Role::Client { mask } => (0x80, Some(mask())),
    };
    match u16::try_from(payload.len()) {
        Ok(length @ 0..=125) => out.push(flag | length.to_be_bytes()[1]),
        Ok(length) => {
            out.push(flag | 126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => {
            out.push(flag | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(mask.as_ref().map_or(&[], <[u8; 4]>::as_slice));
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        unmask(out.get_mut(start..).unwrap_or_default(), mask, 0);
    }
}

fn close_code(payload: &[u8]) -> Result<u16, WsFault> {
    let [high, low, reason @ ..] = payload else {
        return if payload.is_empty() {
            Ok(1005)
        } else {
            Err(WsFault::CloseFrame)
        };
    };
    let code = u16::from_be_bytes([*high, *low]);
    match code {
        1000..=1003 | 1007..=1014 | 3000..=4999 if std::str::from_utf8(reason).is_ok() => Ok(code),
        1000..=1003 | 1007..=1014 | 3000..=4999 => Err(WsFault::CloseReason),
        _ => Err(WsFault::CloseFrame),
    }
}

/// XOR `data` with `mask`, of which `phase` bytes are used up (RFC 6455 section 5.3); masking is its own inverse.
fn unmask(data: &mut [u8], mut mask: [u8; 4], phase: u8) {
    if mask == [0; 4] {
        return;
    }
    mask.rotate_left(usize::from(phase & 3));
    let mut key = [0; 32];
    key.iter_mut()
        .zip(mask.iter().cycle())
        .for_each(|(key, byte)| *key = *byte);
    // whole chunks against a key of the same size: the compiler makes wide XORs of it
    let mut chunks = data.chunks_exact_mut(32);
    for chunk in &mut chunks {
        chunk.iter_mut().zip(&key).for_each(|(byte, key)| *byte ^= key);
    }
    chunks
        .into_remainder()
        .iter_mut()
        .zip(&key)
        .for_each(|(byte, key)| *byte ^= key);
}

#[cfg(test)]
mod tests;
