//! The flexible wire style of our own messages: manifests and index frames.
//!
//! ```text
//! magic [4] | version int16 | fields | CRC-32C uint32 of everything before it
//! ```
//!
//! Fields are big-endian integers, compact strings, bytes and arrays (unsigned varint of the length
//! plus one), 16-byte uuids, and after every struct a section of tagged fields. Readers skip tags
//! they do not know. Nothing here panics on any input or allocates more than the input's own size
//! allows: counts are checked against the bytes that remain.

pub use esker_protocol::records::{Crc32c, crc32c};
use esker_protocol::{LeaderEpoch, Offset, Timestamp};

use crate::layout::Uuid;

/// Why bytes are not the message they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end too early.
    #[error("the message ends early: {wanted} more bytes wanted, {left} left")]
    Short {
        /// Bytes that the next field needs.
        wanted: usize,
        /// Bytes that remain.
        left: usize,
    },
    /// Another kind of message.
    #[error("the message does not begin with its magic")]
    Magic,
    /// Written by a later release.
    #[error("message version {0} is not known")]
    Version(i16),
    /// The checksum disagrees.
    #[error("the message's checksum is {stored:08x}, its bytes give {computed:08x}")]
    Checksum {
        /// What the message says.
        stored: u32,
        /// What its bytes say.
        computed: u32,
    },
    /// A field that cannot be.
    #[error("{0}")]
    Invalid(&'static str),
}

/// Writes fields.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn i8(&mut self, value: i8) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// A size or count, as int64: sizes never reach its sign bit.
    pub(crate) fn size(&mut self, value: u64) {
        self.i64(i64::try_from(value).unwrap_or(i64::MAX));
    }

    pub(crate) fn offset(&mut self, value: Offset) {
        self.i64(value.0);
    }

    pub(crate) fn epoch(&mut self, value: LeaderEpoch) {
        self.i32(value.0);
    }

    pub(crate) fn timestamp(&mut self, value: Timestamp) {
        self.i64(value.0);
    }

    pub(crate) fn uuid(&mut self, value: [u8; 16]) {
        self.bytes.extend_from_slice(&value);
    }

    pub(crate) fn unsigned_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    pub(crate) fn varint(&mut self, value: i64) {
        self.unsigned_varint(((value << 1) ^ (value >> 63)) as u64);
    }

    pub(crate) fn array<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Writer, &T)) {
        self.unsigned_varint(items.len() as u64 + 1);
        for item in items {
            write(self, item);
        }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.unsigned_varint(bytes.len() as u64 + 1);
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn nullable_string(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.bytes(text.as_bytes()),
            None => self.unsigned_varint(0),
        }
    }

    /// The section of tagged fields, which this version leaves empty.
    pub(crate) fn no_tags(&mut self) {
        self.unsigned_varint(0);
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads fields.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let short = WireError::Short {
            wanted: count,
            left: self.rest.len(),
        };
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let short = WireError::Short {
            wanted: N,
            left: self.rest.len(),
        };
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(short)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn i8(&mut self) -> Result<i8, WireError> {
        Ok(i8::from_be_bytes(self.fixed()?))
    }

    pub(crate) fn i16(&mut self) -> Result<i16, WireError> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, WireError> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_be_bytes(self.fixed()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, WireError> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    pub(crate) fn size(&mut self) -> Result<u64, WireError> {
        u64::try_from(self.i64()?).map_err(|_| WireError::Invalid("a size is negative"))
    }

    pub(crate) fn offset(&mut self) -> Result<Offset, WireError> {
        let value = self.i64()?;
        if value < 0 {
            return Err(WireError::Invalid("an offset is negative"));
        }
        Ok(Offset(value))
    }

    pub(crate) fn epoch(&mut self) -> Result<LeaderEpoch, WireError> {
        Ok(LeaderEpoch(self.i32()?))
    }

    pub(crate) fn timestamp(&mut self) -> Result<Timestamp, WireError> {
        Ok(Timestamp(self.i64()?))
    }

    pub(crate) fn uuid(&mut self) -> Result<[u8; 16], WireError> {
        self.fixed()
    }

    pub(crate) fn unsigned_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.fixed::<1>()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::Invalid("a varint is too long"))
    }

    pub(crate) fn varint(&mut self) -> Result<i64, WireError> {
        let value = self.unsigned_varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Reads an array whose elements take at least `element_bytes_min` bytes each.
    pub(crate) fn array<T>(
        &mut self,
        element_bytes_min: usize,
        mut read: impl FnMut(&mut Reader<'a>) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let count = self
            .length()?
            .ok_or(WireError::Invalid("an array is null"))?;
        let wanted = count.saturating_mul(element_bytes_min.max(1));
        if wanted > self.rest.len() {
            return Err(WireError::Short {
                wanted,
                left: self.rest.len(),
            });
        }
        // The count is bounded by the bytes that remain; the elements in memory are only a small
        // multiple of their bytes on the wire.
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let count = self
            .length()?
            .ok_or(WireError::Invalid("a field is null"))?;
        self.take(count)
    }

    pub(crate) fn nullable_string(&mut self) -> Result<Option<String>, WireError> {
        let Some(count) = self.length()? else {
            return Ok(None);
        };
        let text = std::str::from_utf8(self.take(count)?);
        text.map(|text| Some(text.to_owned()))
            .map_err(|_| WireError::Invalid("text is not UTF-8"))
    }

    pub(crate) fn string(&mut self) -> Result<String, WireError> {
        self.nullable_string()?
            .ok_or(WireError::Invalid("a text is null"))
    }

    fn length(&mut self) -> Result<Option<usize>, WireError> {
        let length = self.unsigned_varint()?;
        let Some(length) = length.checked_sub(1) else {
            return Ok(None);
        };
        usize::try_from(length)
            .map(Some)
            .map_err(|_| WireError::Invalid("a length is too large"))
    }

    /// Skips the section of tagged fields.
    pub(crate) fn tags(&mut self) -> Result<(), WireError> {
        let count = self.unsigned_varint()?;
        for _ in 0..count {
            self.unsigned_varint()?;
            let bytes = usize::try_from(self.unsigned_varint()?)
                .map_err(|_| WireError::Invalid("a tagged field is too large"))?;
            self.take(bytes)?;
        }
        Ok(())
    }
}

/// Wraps fields into a message.
pub(crate) fn seal(magic: [u8; 4], version: i16, write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer {
        bytes: magic.to_vec(),
    };
    writer.i16(version);
    write(&mut writer);
    let checksum = crc32c(&writer.bytes);
    writer.u32(checksum);
    writer.bytes
}

/// Checks a message's envelope; gives its fields and its checksum.
pub(crate) fn open(
    magic: [u8; 4],
    version: i16,
    bytes: &[u8],
) -> Result<(Reader<'_>, u32), WireError> {
    let short = WireError::Short {
        wanted: 10,
        left: bytes.len(),
    };
    let (covered, stored) = bytes.split_last_chunk::<4>().ok_or(short)?;
    let (stored, computed) = (u32::from_be_bytes(*stored), crc32c(covered));
    let mut reader = Reader::new(covered);
    if reader.fixed::<4>()? != magic {
        return Err(WireError::Magic);
    }
    // The checksum comes before the version: a damaged version is damage, not a later release.
    if stored != computed {
        return Err(WireError::Checksum { stored, computed });
    }
    let found = reader.i16()?;
    if found != version {
        return Err(WireError::Version(found));
    }
    Ok((reader, stored))
}

/// A fresh uuid from the randomness handed in.
pub(crate) fn uuid_from(random: u128) -> Uuid {
    Uuid(random.to_be_bytes())
}

#[cfg(test)]
mod tests;
