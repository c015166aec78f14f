//! FNV-1a over the fields of a row: a byte that changed on its way through the disk is found when the row is read.
//!
//! Refuses to know what to do about it. It is no defence against somebody who means it.

/// 32 bits; every single changed byte gives another value, because each step can be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checksum(u32);

impl Checksum {
    pub fn new() -> Checksum {
        Checksum(0x811c_9dc5)
    }

    /// Eight bytes, lowest first.
    pub fn number(self, value: i64) -> Checksum {
        self.fold(&value.to_le_bytes())
    }

    /// `None` and any number differ.
    pub fn option(self, value: Option<i64>) -> Checksum {
        match value {
            Some(value) => self.fold(&[1]).number(value),
            None => self.fold(&[0]),
        }
    }

    /// With the length before them, so that a byte cannot move from one field to the next.
    pub fn bytes(self, bytes: &[u8]) -> Checksum {
        self.number(i64::try_from(bytes.len()).unwrap_or(i64::MAX)).fold(bytes)
    }

    /// `None` and the empty text differ.
    pub fn text(self, text: Option<&str>) -> Checksum {
        match text {
            Some(text) => self.fold(&[1]).bytes(text.as_bytes()),
            None => self.fold(&[0]),
        }
    }

    pub fn value(self) -> i64 {
        i64::from(self.0)
    }

    fn fold(self, bytes: &[u8]) -> Checksum {
        Checksum(
            bytes
                .iter()
                .fold(self.0, |sum, &byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Checksum;

    #[test]
    fn the_published_vectors_hold() {
        // draft-eastlake-fnv, appendix C: "" and "foobar".
        assert_eq!(Checksum::new().fold(b"").value(), 0x811c_9dc5);
        assert_eq!(Checksum::new().fold(b"foobar").value(), 0xbf9c_f968);
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let sum = |a: &[u8], b: &[u8]| Checksum::new().bytes(a).bytes(b);
        assert_ne!(sum(b"ab", b"c"), sum(b"a", b"bc"));
        assert_ne!(Checksum::new().option(None), Checksum::new().option(Some(0)));
        assert_ne!(Checksum::new().text(None), Checksum::new().text(Some("")));
    }
}
