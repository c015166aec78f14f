//! What a peer makes TLS do beyond carrying data: records with nothing in them, answers that it does not read.
//!
//! Refuses to know what is in a record. A change of keys costs more than the 27 bytes that ask for it, and nobody who speaks
//! MQTT counts its work: so there is a bound here, as in other stacks of TLS, whatever else is sent in between.

use super::LinkFault;

/// Records of one read that may carry nothing: a client changes its keys once in 2^24 records (RFC 8446 section 5.5).
const BARREN: usize = 64;
/// Bytes waiting for the network beyond which TLS is not asked for another answer: more than one write leaves behind.
const ANSWERS_KEPT: usize = 512 * 1024;
/// Bytes of a message of TLS that may wait for their rest: a record as long as any (RFC 5246 section 6.2.3), since no client
/// has a longer message to send once the handshake is over.
const UNFINISHED: usize = HEADER as usize + 16 * 1024 + 2048;
/// Type, version, and length (RFC 8446 section 5.1).
const HEADER: u8 = 5;

/// Counts the records of a connection as their bytes go by, wherever reads cut them.
#[derive(Default)]
pub(super) struct Records {
    /// Bytes of the header under way that have gone by.
    header: u8,
    /// Bytes of the record that are still to come.
    left: u16,
}

impl Records {
    /// How many records begin in `bytes`, which are the next of the connection.
    pub fn pass(&mut self, mut bytes: &[u8]) -> usize {
        let mut begun = 0;
        while let Some((&first, rest)) = bytes.split_first() {
            if self.header == HEADER && self.left > 0 {
                let body = bytes.len().min(usize::from(self.left));
                self.left -= body as u16;
                bytes = bytes.get(body..).unwrap_or_default();
                continue;
            }
            self.header %= HEADER;
            begun += usize::from(self.header == 0);
            // The last two bytes are the length.
            self.left = self.left << 8 | u16::from(first);
            self.header += 1;
            bytes = rest;
        }
        begun
    }
}

/// What one read made TLS do.
pub(super) struct Work {
    /// Records that began, and those that held data.
    pub begun: usize,
    pub carrying: usize,
    /// Bytes that are kept, as the beginning of what is not whole.
    pub unfinished: usize,
    /// Bytes for the network before it and after it.
    pub waiting: [usize; 2],
}

impl Work {
    /// Raises the fault of a peer that asks for more than a client does.
    pub fn judge(&self) -> Result<(), LinkFault> {
        let [before, after] = self.waiting;
        if self.begun > self.carrying + BARREN || self.unfinished > UNFINISHED {
            Err(LinkFault::Barren)
        } else if after > before && after > ANSWERS_KEPT {
            Err(LinkFault::Unread)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_wherever_they_are_cut() {
        let bodies = [0usize, 1, 22, 300, 16_640];
        let stream: Vec<u8> = bodies
            .iter()
            .flat_map(|&size| [&[23, 3, 3][..], &(size as u16).to_be_bytes(), &vec![9; size]].concat())
            .collect();
        for step in [1, 2, 3, 4, 5, 6, 7, 27, 1000, stream.len()] {
            let mut records = Records::default();
            let begun: usize = stream.chunks(step).map(|part| records.pass(part)).sum();
            assert_eq!(begun, bodies.len(), "in pieces of {step}");
            assert_eq!(records.pass(&[23]), 1, "the next one begins where the last has ended");
        }
    }

    #[test]
    fn data_is_always_welcome_and_answers_wait_within_a_bound() {
        let work = |begun, carrying, before, after| Work {
            begun,
            carrying,
            unfinished: UNFINISHED,
            waiting: [before, after],
        };
        assert!(work(3000, 3000, ANSWERS_KEPT + 1, ANSWERS_KEPT + 1).judge().is_ok());
        assert!(work(BARREN, 0, 0, ANSWERS_KEPT).judge().is_ok());
        assert!(matches!(work(BARREN + 1, 0, 0, 0).judge(), Err(LinkFault::Barren)));
        let half = Work {
            unfinished: UNFINISHED + 1,
            ..work(2, 1, 0, 0)
        };
        assert!(matches!(half.judge(), Err(LinkFault::Barren)));
        let unread = work(1, 0, ANSWERS_KEPT, ANSWERS_KEPT + 1).judge();
        assert!(matches!(unread, Err(LinkFault::Unread)));
    }
}
