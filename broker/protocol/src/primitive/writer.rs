use bytes::{BufMut, Bytes, BytesMut};

use super::{Blob, Encode, EncodeError, STRING_BYTES_MAX};
use crate::TopicId;

/// Record batches from this size on are handed over as chunks of their own; copying fewer bytes
/// costs less than another entry of a vectored write.
pub const SHARED_CHUNK_BYTES_MIN: usize = 4096;

const LENGTH_MAX: usize = i32::MAX as usize;

/// Writes primitive values to a list of chunks.
///
/// Small values gather in one buffer. A large [`Blob`] ends the buffer's chunk and stands in the
/// list as it is, so that records go from the cache to the socket without a copy.
#[derive(Debug, Default)]
pub struct Writer {
    /// The first chunk, once it is complete; kept mutable because a frame's size goes there.
    first: Option<BytesMut>,
    chunks: Vec<Bytes>,
    /// The bytes of `first` and `chunks`.
    chunked_bytes: usize,
    buffer: BytesMut,
    /// How many tagged fields are under way, one within the other: their bytes stay in the buffer.
    open_fields: u32,
}

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Writer {
        Writer::default()
    }

    /// An empty writer with room for `bytes`.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Writer {
        Writer {
            buffer: BytesMut::with_capacity(bytes),
            ..Writer::default()
        }
    }

    /// The bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunked_bytes + self.buffer.len()
    }

    /// Whether nothing has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was written since the last chunk ended: all of it where no [`Blob`] was written.
    #[must_use]
    pub fn buffered(&self) -> &[u8] {
        &self.buffer
    }

    /// Forgets what was written, and keeps the room of what is buffered.
    pub fn clear(&mut self) {
        self.first = None;
        self.chunks.clear();
        self.chunked_bytes = 0;
        self.buffer.clear();
    }

    /// What was written, in order, without empty chunks.
    #[must_use]
    pub fn finish(self) -> Vec<Bytes> {
        if self.first.is_none() {
            return if self.buffer.is_empty() {
                Vec::new()
            } else {
                vec![self.buffer.freeze()]
            };
        }
        let mut all = Vec::with_capacity(self.chunks.len() + 2);
        all.extend(self.first.map(BytesMut::freeze));
        all.extend(self.chunks);
        all.push(self.buffer.freeze());
        all.retain(|chunk| !chunk.is_empty());
        all
    }

    /// What was written in one piece; copied if it is in several.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        Blob::Chunks(self.finish()).to_bytes()
    }

    /// Finishes a frame whose first four bytes were kept for its size.
    pub(crate) fn finish_frame(mut self) -> Result<Vec<Bytes>, EncodeError> {
        const SIZE_BYTES: usize = size_of::<i32>();
        let length = self.len().saturating_sub(SIZE_BYTES);
        let size = i32::try_from(length).map_err(|_| EncodeError::TooLong {
            length,
            max: LENGTH_MAX,
        })?;
        let start = self.first.as_mut().unwrap_or(&mut self.buffer);
        if let Some(prefix) = start.get_mut(..SIZE_BYTES) {
            prefix.copy_from_slice(&size.to_be_bytes());
        }
        Ok(self.finish())
    }

    /// Ends the chunk under way.
    fn cut(&mut self) {
        let chunk = self.buffer.split();
        self.chunked_bytes += chunk.len();
        if self.first.is_none() {
            // Kept even when empty: it marks that chunks may follow.
            self.first = Some(chunk);
        } else if !chunk.is_empty() {
            self.chunks.push(chunk.freeze());
        }
    }

    fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_CHUNK_BYTES_MIN || self.open_fields > 0 {
            self.buffer.put_slice(bytes);
            return;
        }
        self.cut();
        self.chunked_bytes += bytes.len();
        self.chunks.push(bytes.clone());
    }

    /// Bytes without a length.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    /// A bool.
    pub fn bool(&mut self, value: bool) {
        self.buffer.put_u8(u8::from(value));
    }

    /// An int8.
    pub fn int8(&mut self, value: i8) {
        self.buffer.put_i8(value);
    }

    /// An int16.
    pub fn int16(&mut self, value: i16) {
        self.buffer.put_i16(value);
    }

    /// An int32.
    pub fn int32(&mut self, value: i32) {
        self.buffer.put_i32(value);
    }

    /// An int64.
    pub fn int64(&mut self, value: i64) {
        self.buffer.put_i64(value);
    }

    /// A uint16.
    pub fn uint16(&mut self, value: u16) {
        self.buffer.put_u16(value);
    }

    /// A uint32.
    pub fn uint32(&mut self, value: u32) {
        self.buffer.put_u32(value);
    }

    /// A float64.
    pub fn float64(&mut self, value: f64) {
        self.buffer.put_f64(value);
    }

    /// A UUID.
    pub fn uuid(&mut self, value: TopicId) {
        self.buffer.put_slice(&value.0);
    }

    /// An unsigned integer in 1 to 5 bytes, 7 bits in each, the lowest first.
    pub fn unsigned_varint(&mut self, value: u32) {
        if value < 0x80 {
            self.buffer.put_u8(value as u8);
        } else {
            self.buffer.put_slice(varint(value, &mut [0; 5]));
        }
    }

    /// The length of a value that is not null, already known to be at most [`LENGTH_MAX`].
    fn compact_length(&mut self, length: usize) {
        self.unsigned_varint(length as u32 + 1);
    }

    fn length32(&mut self, length: usize, flexible: bool) -> Result<(), EncodeError> {
        if length > LENGTH_MAX {
            return Err(EncodeError::TooLong {
                length,
                max: LENGTH_MAX,
            });
        }
        if flexible {
            self.compact_length(length);
        } else {
            self.int32(length as i32);
        }
        Ok(())
    }

    fn null32(&mut self, flexible: bool) {
        if flexible {
            self.unsigned_varint(0)
        } else {
            self.int32(-1)
        }
    }

    /// A string.
    ///
    /// # Errors
    /// It is longer than [`STRING_BYTES_MAX`].
    pub fn string(&mut self, value: &str, flexible: bool) -> Result<(), EncodeError> {
        let length = value.len();
        if length > STRING_BYTES_MAX {
            return Err(EncodeError::TooLong {
                length,
                max: STRING_BYTES_MAX,
            });
        }
        if flexible {
            self.compact_length(length);
        } else {
            self.int16(length as i16);
        }
        self.buffer.put_slice(value.as_bytes());
        Ok(())
    }

    /// A string or null.
    ///
    /// # Errors
    /// It is longer than [`STRING_BYTES_MAX`].
    pub fn nullable_string(
        &mut self,
        value: Option<&str>,
        flexible: bool,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.string(value, flexible)?,
            None if flexible => self.unsigned_varint(0),
            None => self.int16(-1),
        }
        Ok(())
    }

    /// A byte sequence.
    ///
    /// # Errors
    /// It is longer than an int32 can say.
    pub fn bytes(&mut self, value: &[u8], flexible: bool) -> Result<(), EncodeError> {
        self.length32(value.len(), flexible)?;
        self.buffer.put_slice(value);
        Ok(())
    }

    /// A byte sequence or null.
    ///
    /// # Errors
    /// It is longer than an int32 can say.
    pub fn nullable_bytes(
        &mut self,
        value: Option<&[u8]>,
        flexible: bool,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.bytes(value, flexible)?,
            None => self.null32(flexible),
        }
        Ok(())
    }

    /// Record batches.
    ///
    /// # Errors
    /// They are longer than an int32 can say.
    pub fn records(&mut self, value: &Blob<'_>, flexible: bool) -> Result<(), EncodeError> {
        self.length32(value.len(), flexible)?;
        match value {
            Blob::Borrowed(bytes) => self.buffer.put_slice(bytes),
            Blob::Shared(bytes) => self.put_shared(bytes),
            Blob::Chunks(chunks) => chunks.iter().for_each(|chunk| self.put_shared(chunk)),
        }
        Ok(())
    }

    /// Record batches or null.
    ///
    /// # Errors
    /// They are longer than an int32 can say.
    pub fn nullable_records(
        &mut self,
        value: Option<&Blob<'_>>,
        flexible: bool,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.records(value, flexible)?,
            None => self.null32(flexible),
        }
        Ok(())
    }

    /// An array.
    ///
    /// # Errors
    /// It is too long, or `version` cannot carry one of its elements.
    pub fn array<T: Encode>(
        &mut self,
        values: &[T],
        version: i16,
        flexible: bool,
    ) -> Result<(), EncodeError> {
        self.length32(values.len(), flexible)?;
        values
            .iter()
            .try_for_each(|value| value.encode(self, version))
    }

    /// An array or null.
    ///
    /// # Errors
    /// It is too long, or `version` cannot carry one of its elements.
    pub fn nullable_array<T: Encode>(
        &mut self,
        values: Option<&[T]>,
        version: i16,
        flexible: bool,
    ) -> Result<(), EncodeError> {
        match values {
            Some(values) => self.array(values, version, flexible)?,
            None => self.null32(flexible),
        }
        Ok(())
    }

    /// An array of strings.
    ///
    /// # Errors
    /// It or one of them is too long.
    pub fn strings<S: AsRef<str>>(
        &mut self,
        values: &[S],
        flexible: bool,
    ) -> Result<(), EncodeError> {
        self.length32(values.len(), flexible)?;
        values
            .iter()
            .try_for_each(|value| self.string(value.as_ref(), flexible))
    }

    /// An array of strings or null.
    ///
    /// # Errors
    /// It or one of them is too long.
    pub fn nullable_strings<S: AsRef<str>>(
        &mut self,
        values: Option<&[S]>,
        flexible: bool,
    ) -> Result<(), EncodeError> {
        match values {
            Some(values) => self.strings(values, flexible)?,
            None => self.null32(flexible),
        }
        Ok(())
    }

    /// A structure or null: 1 before a value, -1 for none.
    ///
    /// # Errors
    /// `version` cannot carry it.
    pub fn nullable_struct<T: Encode>(
        &mut self,
        value: Option<&T>,
        version: i16,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => {
                self.int8(1);
                value.encode(self, version)
            }
            None => {
                self.int8(-1);
                Ok(())
            }
        }
    }

    /// As [`Writer::nullable_struct`] for a tagged field, where null is 0.
    ///
    /// # Errors
    /// `version` cannot carry it.
    pub fn nullable_tagged_struct<T: Encode>(
        &mut self,
        value: Option<&T>,
        version: i16,
    ) -> Result<(), EncodeError> {
        self.unsigned_varint(u32::from(value.is_some()));
        value.map_or(Ok(()), |value| value.encode(self, version))
    }

    /// How many tagged fields follow: as many as are `set`.
    pub fn tag_count(&mut self, set: &[bool]) {
        self.unsigned_varint(set.iter().map(|&set| u32::from(set)).sum());
    }

    /// One tagged field; its size is known only once it is written.
    ///
    /// # Errors
    /// What `encode` fails with.
    pub fn tagged(
        &mut self,
        tag: u32,
        encode: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.unsigned_varint(tag);
        // Nearly every field takes one byte for its size; for a longer one what follows moves up.
        let size_at = self.buffer.len();
        self.buffer.put_u8(0);
        let start = self.buffer.len();
        self.open_fields += 1;
        let encoded = encode(self);
        self.open_fields -= 1;
        encoded?;
        let length = self.buffer.len().saturating_sub(start);
        if length > LENGTH_MAX {
            return Err(EncodeError::TooLong {
                length,
                max: LENGTH_MAX,
            });
        }
        if length < 0x80 {
            if let Some(size) = self.buffer.get_mut(size_at) {
                *size = length as u8;
            }
            return Ok(());
        }
        let mut size = [0; 5];
        let size = varint(length as u32, &mut size);
        let moves_by = size.len() - 1;
        let end = self.buffer.len();
        self.buffer.resize(end + moves_by, 0);
        self.buffer.copy_within(start..end, start + moves_by);
        if let Some(place) = self.buffer.get_mut(size_at..start + moves_by) {
            place.copy_from_slice(size);
        }
        Ok(())
    }
}

/// The bytes of an unsigned varint.
fn varint(mut value: u32, bytes: &mut [u8; 5]) -> &[u8] {
    let mut length = 0;
    for byte in bytes.iter_mut() {
        length += 1;
        if value < 0x80 {
            *byte = value as u8;
            break;
        }
        *byte = (value & 0x7f) as u8 | 0x80;
        value >>= 7;
    }
    &bytes[..length]
}

macro_rules! encode_fixed {
    ($($type:ty, $write:ident;)*) => {$(
        impl Encode for $type {
            fn encode(&self, writer: &mut Writer, _version: i16) -> Result<(), EncodeError> {
                writer.$write(*self);
                Ok(())
            }
        }
    )*};
}

encode_fixed! {
    i8, int8;
    i16, int16;
    i32, int32;
    i64, int64;
    TopicId, uuid;
}

/// Refuses to drop a value that `version` cannot carry.
pub(crate) fn check_absent(
    is_default: bool,
    field: &'static str,
    version: i16,
) -> Result<(), EncodeError> {
    if is_default {
        Ok(())
    } else {
        Err(EncodeError::FieldNotInVersion { field, version })
    }
}

/// The value of a field that `version` does not allow to be null.
pub(crate) fn present<'v, T>(
    value: &'v Option<T>,
    field: &'static str,
    version: i16,
) -> Result<&'v T, EncodeError> {
    value
        .as_ref()
        .ok_or(EncodeError::NullNotInVersion { field, version })
}
