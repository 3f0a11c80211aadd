//! The zigzag varints of records, read and written as Kafka's own reader and writer do.

/// An int takes at most this many bytes.
const INT_BYTES_MAX: usize = 5;
/// A long takes at most this many bytes.
const LONG_BYTES_MAX: usize = 10;

/// Takes bytes off the front of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn remaining(&self) -> usize {
        self.0.len()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A 32-bit varint; `None` at the end of the bytes or when it does not end itself.
    pub(super) fn varint(&mut self) -> Option<i32> {
        // Bits above the 32nd fall off, as they do in Kafka.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "those bits are meant to fall off"
        )]
        let value = self.unsigned(INT_BYTES_MAX)? as u32;
        Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    /// A 64-bit varint.
    pub(super) fn varlong(&mut self) -> Option<i64> {
        let value = self.unsigned(LONG_BYTES_MAX)?;
        Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    /// Bytes behind a length; any negative length is null, as in Kafka.
    pub(super) fn nullable_bytes(&mut self) -> Option<Option<&'a [u8]>> {
        match usize::try_from(self.varint()?) {
            Ok(length) => self.take(length).map(Some),
            Err(_) => Some(None),
        }
    }

    fn unsigned(&mut self, bytes_max: usize) -> Option<u64> {
        let mut value = 0;
        for index in 0..bytes_max {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

/// Appends a 32-bit varint.
pub(super) fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_unsigned(
        out,
        u64::from(((value << 1) ^ (value >> 31)).cast_unsigned()),
    );
}

/// Appends a 64-bit varint.
pub(super) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    put_unsigned(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// The bytes that [`put_varint`] appends.
pub(super) fn varint_bytes(value: i32) -> usize {
    unsigned_bytes(u64::from(((value << 1) ^ (value >> 31)).cast_unsigned()))
}

/// The bytes that [`put_varlong`] appends.
pub(super) fn varlong_bytes(value: i64) -> usize {
    unsigned_bytes(((value << 1) ^ (value >> 63)).cast_unsigned())
}

fn put_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        // The mask keeps the value within a byte.
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn unsigned_bytes(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn long(value: i64) -> Vec<u8> {
        let mut out = Vec::new();
        put_varlong(&mut out, value);
        out
    }

    #[test]
    fn zigzag_bytes_are_the_documented_ones() {
        for (value, bytes) in [
            (0, vec![0]),
            (-1, vec![1]),
            (1, vec![2]),
            (63, vec![0x7e]),
            (-64, vec![0x7f]),
            (64, vec![0x80, 1]),
            (i32::MAX, vec![0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MIN, vec![0xff, 0xff, 0xff, 0xff, 0x0f]),
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(varint_bytes(value), bytes.len(), "{value}");
            assert_eq!(Cursor(&bytes).varint(), Some(value));
            assert_eq!(long(i64::from(value)), bytes, "{value}");
        }
        assert_eq!(long(i64::MIN).len(), LONG_BYTES_MAX);
    }

    #[test]
    fn varints_that_do_not_end_are_refused() {
        assert_eq!(Cursor(&[0x80; 4]).varint(), None);
        assert_eq!(Cursor(&[0x80, 0x80, 0x80, 0x80, 0x80, 0]).varint(), None);
        assert_eq!(Cursor(&[0xff; 11]).varlong(), None);
        assert_eq!(Cursor(&[]).varint(), None);
    }

    proptest! {
        #[test]
        fn any_value_reads_back(int: i32, long_value: i64) {
            let mut out = Vec::new();
            put_varint(&mut out, int);
            let int_bytes = out.len();
            put_varlong(&mut out, long_value);
            prop_assert_eq!(varint_bytes(int), int_bytes);
            prop_assert_eq!(varlong_bytes(long_value), out.len() - int_bytes);
            let mut cursor = Cursor(&out);
            prop_assert_eq!(cursor.varint(), Some(int));
            prop_assert_eq!(cursor.varlong(), Some(long_value));
            prop_assert!(cursor.is_empty());
        }
    }
}
