use std::borrow::Cow;

use super::{Blob, Decode, DecodeError, STRING_BYTES_MAX};
use crate::TopicId;

/// The arrays of a message may take this many times the memory of its bytes. Elements are larger in
/// memory than on the wire, the most in requests that only a hostile client sends.
pub const ALLOCATION_PER_BYTE_MAX: usize = 16;

/// What the arrays of a message may take in memory however short it is.
pub const ALLOCATION_BYTES_MIN: usize = 64 * 1024;

/// Reads primitive values from the front of a byte slice.
///
/// What it hands out borrows from the slice. `flexible` says which of the two encodings the version
/// has: lengths as int16 or int32, or compact ones with tagged fields after each structure
/// (KIP-482).
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    allowance: usize,
    #[cfg(any(test, feature = "samples"))]
    sample: Option<crate::sample::Random>,
}

/// The width of a length that is not compact.
enum Length {
    Int16,
    Int32,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader {
            bytes,
            allowance: bytes
                .len()
                .saturating_mul(ALLOCATION_PER_BYTE_MAX)
                .saturating_add(ALLOCATION_BYTES_MIN),
            #[cfg(any(test, feature = "samples"))]
            sample: None,
        }
    }

    /// A reader that makes values up: what a message decodes from it is a random valid message.
    #[cfg(any(test, feature = "samples"))]
    pub(crate) fn sampling(random: crate::sample::Random) -> Reader<'a> {
        Reader {
            bytes: crate::sample::TEXT.as_bytes(),
            allowance: usize::MAX,
            sample: Some(random),
        }
    }

    /// The bytes that are left.
    #[must_use]
    pub fn remaining(&self) -> &'a [u8] {
        self.bytes
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`DecodeError::TrailingBytes`].
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.bytes.len() {
            0 => Ok(()),
            count => Err(DecodeError::TrailingBytes(count)),
        }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`DecodeError::UnexpectedEnd`].
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.bytes.split_at_checked(count) else {
            return Err(self.unexpected_end(count));
        };
        #[cfg(any(test, feature = "samples"))]
        if self.sample.is_some() {
            return Ok(taken);
        }
        self.bytes = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        #[cfg(any(test, feature = "samples"))]
        if let Some(random) = &mut self.sample {
            return Ok(random.fixed());
        }
        let Some((taken, rest)) = self.bytes.split_first_chunk::<N>() else {
            return Err(self.unexpected_end(N));
        };
        self.bytes = rest;
        Ok(*taken)
    }

    #[cold]
    fn unexpected_end(&self, wanted: usize) -> DecodeError {
        DecodeError::UnexpectedEnd {
            wanted,
            remaining: self.bytes.len(),
        }
    }

    /// A bool: any byte but 0 is true, as Kafka has it.
    ///
    /// # Errors
    /// The bytes end.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        self.int8().map(|byte| byte != 0)
    }

    /// An int8.
    ///
    /// # Errors
    /// The bytes end.
    pub fn int8(&mut self) -> Result<i8, DecodeError> {
        self.fixed().map(i8::from_be_bytes)
    }

    /// An int16.
    ///
    /// # Errors
    /// The bytes end.
    pub fn int16(&mut self) -> Result<i16, DecodeError> {
        self.fixed().map(i16::from_be_bytes)
    }

    /// An int32.
    ///
    /// # Errors
    /// The bytes end.
    pub fn int32(&mut self) -> Result<i32, DecodeError> {
        self.fixed().map(i32::from_be_bytes)
    }

    /// An int64.
    ///
    /// # Errors
    /// The bytes end.
    pub fn int64(&mut self) -> Result<i64, DecodeError> {
        self.fixed().map(i64::from_be_bytes)
    }

    /// A uint16.
    ///
    /// # Errors
    /// The bytes end.
    pub fn uint16(&mut self) -> Result<u16, DecodeError> {
        self.fixed().map(u16::from_be_bytes)
    }

    /// A uint32.
    ///
    /// # Errors
    /// The bytes end.
    pub fn uint32(&mut self) -> Result<u32, DecodeError> {
        self.fixed().map(u32::from_be_bytes)
    }

    /// A float64.
    ///
    /// # Errors
    /// The bytes end.
    pub fn float64(&mut self) -> Result<f64, DecodeError> {
        self.fixed().map(f64::from_be_bytes)
    }

    /// A UUID.
    ///
    /// # Errors
    /// The bytes end.
    pub fn uuid(&mut self) -> Result<TopicId, DecodeError> {
        self.fixed().map(TopicId)
    }

    /// An unsigned integer in 1 to 5 bytes, 7 bits in each, the lowest first.
    ///
    /// # Errors
    /// The bytes end, or it does not fit 32 bits.
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        #[cfg(any(test, feature = "samples"))]
        if let Some(random) = &mut self.sample {
            return Ok(random.below(2) as u32);
        }
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong)
    }

    /// A length; `None` is null, which is an error unless it is `nullable`.
    fn length(
        &mut self,
        width: Length,
        flexible: bool,
        nullable: bool,
    ) -> Result<Option<usize>, DecodeError> {
        #[cfg(any(test, feature = "samples"))]
        if let Some(random) = &mut self.sample {
            return Ok(random.length(nullable));
        }
        let length = match width {
            _ if flexible => i64::from(self.unsigned_varint()?) - 1,
            Length::Int16 => i64::from(self.int16()?),
            Length::Int32 => i64::from(self.int32()?),
        };
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 && nullable => Ok(None),
            Err(_) if length == -1 => Err(DecodeError::UnexpectedNull),
            Err(_) => Err(DecodeError::InvalidLength(length)),
        }
    }

    fn optional_string(
        &mut self,
        flexible: bool,
        nullable: bool,
    ) -> Result<Option<Cow<'a, str>>, DecodeError> {
        let Some(length) = self.length(Length::Int16, flexible, nullable)? else {
            return Ok(None);
        };
        if length > STRING_BYTES_MAX {
            return Err(DecodeError::InvalidLength(length as i64));
        }
        match std::str::from_utf8(self.take(length)?) {
            Ok(text) => Ok(Some(Cow::Borrowed(text))),
            Err(_) => Err(DecodeError::InvalidUtf8),
        }
    }

    fn optional_bytes(
        &mut self,
        flexible: bool,
        nullable: bool,
    ) -> Result<Option<&'a [u8]>, DecodeError> {
        match self.length(Length::Int32, flexible, nullable)? {
            Some(length) => self.take(length).map(Some),
            None => Ok(None),
        }
    }

    /// A string.
    ///
    /// # Errors
    /// The bytes end, are not UTF-8, or say null.
    pub fn string(&mut self, flexible: bool) -> Result<Cow<'a, str>, DecodeError> {
        self.optional_string(flexible, false)?
            .ok_or(DecodeError::UnexpectedNull)
    }

    /// A string or null.
    ///
    /// # Errors
    /// The bytes end or are not UTF-8.
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<Cow<'a, str>>, DecodeError> {
        self.optional_string(flexible, true)
    }

    /// A byte sequence.
    ///
    /// # Errors
    /// The bytes end or say null.
    pub fn bytes(&mut self, flexible: bool) -> Result<Cow<'a, [u8]>, DecodeError> {
        let bytes = self
            .optional_bytes(flexible, false)?
            .ok_or(DecodeError::UnexpectedNull)?;
        Ok(Cow::Borrowed(bytes))
    }

    /// A byte sequence or null.
    ///
    /// # Errors
    /// The bytes end.
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<Cow<'a, [u8]>>, DecodeError> {
        Ok(self.optional_bytes(flexible, true)?.map(Cow::Borrowed))
    }

    /// Record batches.
    ///
    /// # Errors
    /// The bytes end or say null.
    pub fn records(&mut self, flexible: bool) -> Result<Blob<'a>, DecodeError> {
        let bytes = self
            .optional_bytes(flexible, false)?
            .ok_or(DecodeError::UnexpectedNull)?;
        Ok(Blob::Borrowed(bytes))
    }

    /// Record batches or null.
    ///
    /// # Errors
    /// The bytes end.
    pub fn nullable_records(&mut self, flexible: bool) -> Result<Option<Blob<'a>>, DecodeError> {
        Ok(self.optional_bytes(flexible, true)?.map(Blob::Borrowed))
    }

    /// The number of elements of an array, none of which is shorter than `element_bytes_min`; the
    /// memory for them is taken from the allowance.
    fn count<T>(
        &mut self,
        flexible: bool,
        nullable: bool,
        element_bytes_min: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let Some(count) = self.length(Length::Int32, flexible, nullable)? else {
            return Ok(None);
        };
        if count > self.bytes.len() / element_bytes_min {
            return Err(DecodeError::CountTooLarge {
                count,
                remaining: self.bytes.len(),
            });
        }
        let wanted = count.saturating_mul(size_of::<T>());
        let Some(allowance) = self.allowance.checked_sub(wanted) else {
            return Err(DecodeError::AllocationTooLarge {
                wanted,
                allowed: self.allowance,
            });
        };
        self.allowance = allowance;
        Ok(Some(count))
    }

    fn elements<T: Decode<'a>>(
        &mut self,
        version: i16,
        count: usize,
    ) -> Result<Vec<T>, DecodeError> {
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(T::decode(self, version)?);
        }
        Ok(elements)
    }

    /// An array.
    ///
    /// # Errors
    /// The bytes end, say null, or are no such elements.
    pub fn array<T: Decode<'a>>(
        &mut self,
        version: i16,
        flexible: bool,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.count::<T>(flexible, false, T::BYTES_MIN)?;
        self.elements(version, count.ok_or(DecodeError::UnexpectedNull)?)
    }

    /// An array or null.
    ///
    /// # Errors
    /// The bytes end or are no such elements.
    pub fn nullable_array<T: Decode<'a>>(
        &mut self,
        version: i16,
        flexible: bool,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let count = self.count::<T>(flexible, true, T::BYTES_MIN)?;
        count.map(|count| self.elements(version, count)).transpose()
    }

    fn optional_strings(
        &mut self,
        flexible: bool,
        nullable: bool,
    ) -> Result<Option<Vec<Cow<'a, str>>>, DecodeError> {
        let bytes_min = if flexible { 1 } else { 2 };
        let Some(count) = self.count::<Cow<'a, str>>(flexible, nullable, bytes_min)? else {
            return Ok(None);
        };
        let mut strings = Vec::with_capacity(count);
        for _ in 0..count {
            strings.push(self.string(flexible)?);
        }
        Ok(Some(strings))
    }

    /// An array of strings.
    ///
    /// # Errors
    /// The bytes end, say null, or are not UTF-8.
    pub fn strings(&mut self, flexible: bool) -> Result<Vec<Cow<'a, str>>, DecodeError> {
        self.optional_strings(flexible, false)?
            .ok_or(DecodeError::UnexpectedNull)
    }

    /// An array of strings or null.
    ///
    /// # Errors
    /// The bytes end or are not UTF-8.
    pub fn nullable_strings(
        &mut self,
        flexible: bool,
    ) -> Result<Option<Vec<Cow<'a, str>>>, DecodeError> {
        self.optional_strings(flexible, true)
    }

    /// A structure that may be null: a byte says so, 1 before a value and -1 for none.
    ///
    /// # Errors
    /// The bytes end or are no such structure.
    pub fn nullable_struct<T: Decode<'a>>(
        &mut self,
        version: i16,
    ) -> Result<Option<T>, DecodeError> {
        if self.int8()? < 0 {
            return Ok(None);
        }
        T::decode(self, version).map(Some)
    }

    /// As [`Reader::nullable_struct`] for a tagged field, where the byte of null is 0.
    ///
    /// # Errors
    /// The bytes end or are no such structure.
    pub fn nullable_tagged_struct<T: Decode<'a>>(
        &mut self,
        version: i16,
    ) -> Result<Option<T>, DecodeError> {
        if self.unsigned_varint()? == 0 {
            return Ok(None);
        }
        T::decode(self, version).map(Some)
    }

    /// The tagged fields at the end of a structure. `known` gets each tag, with the reader held to
    /// that field's bytes, and answers whether it read the field; others are skipped.
    ///
    /// # Errors
    /// The bytes end, tags do not ascend, or a known field is longer than its value.
    pub fn tagged_fields(
        &mut self,
        mut known: impl FnMut(u32, &mut Reader<'a>) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        #[cfg(any(test, feature = "samples"))]
        if let Some(random) = &mut self.sample {
            for tag in random.tags() {
                known(tag, self)?;
            }
            return Ok(());
        }
        let mut previous = None;
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            match previous {
                Some(previous) if tag <= previous => {
                    return Err(DecodeError::TagOrder { previous, tag });
                }
                _ => previous = Some(tag),
            }
            let size = self.unsigned_varint()? as usize;
            let field = self.take(size)?;
            let rest = std::mem::replace(&mut self.bytes, field);
            if known(tag, self)? && !self.bytes.is_empty() {
                return Err(DecodeError::TaggedFieldSize {
                    tag,
                    excess: self.bytes.len(),
                });
            }
            self.bytes = rest;
        }
        Ok(())
    }

    /// The tagged fields of a structure that knows none.
    ///
    /// # Errors
    /// The bytes end or tags do not ascend.
    pub fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        self.tagged_fields(|_, _| Ok(false))
    }
}

macro_rules! decode_fixed {
    ($($type:ty, $read:ident;)*) => {$(
        impl<'a> Decode<'a> for $type {
            const BYTES_MIN: usize = size_of::<$type>();
            fn decode(reader: &mut Reader<'a>, _version: i16) -> Result<Self, DecodeError> {
                reader.$read()
            }
        }
    )*};
}

decode_fixed! {
    i8, int8;
    i16, int16;
    i32, int32;
    i64, int64;
    TopicId, uuid;
}
