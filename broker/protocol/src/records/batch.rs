//! Views of batches that lie in a buffer.

use std::ops::Range;

use super::compression::Caps;
use super::header::{BatchError, BatchHeader, CRC_COVERS_FROM};
use super::record::{Records, RecordsError};

/// A whole batch in a buffer: header fields parsed, records untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Takes the first batch off `bytes` and returns what follows it; the checksum is not looked at.
    pub fn parse(bytes: &'a [u8]) -> Result<(Batch<'a>, &'a [u8]), BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let needed = header.size_in_bytes();
        let (own, rest) = bytes
            .split_at_checked(needed)
            .ok_or(BatchError::Incomplete {
                needed,
                available: bytes.len(),
            })?;
        Ok((Batch { header, bytes: own }, rest))
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Header and records as they stand.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records as they stand, compressed or not.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(BatchHeader::BYTES..).unwrap_or_default()
    }

    /// Whether the bytes are those that the checksum was made of.
    #[must_use]
    pub fn crc_is_valid(&self) -> bool {
        let covered = self.bytes.get(CRC_COVERS_FROM..).unwrap_or_default();
        super::crc::crc32c(covered) == self.header.crc
    }

    /// The records, decompressed within `caps` where they are compressed.
    pub fn records(&self, caps: &Caps) -> Result<Records<'a>, RecordsError> {
        Records::decode(self.header, self.payload(), caps)
    }
}

/// Batches that lie back to back.
///
/// Ends after the last whole batch, or after the first error.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
    tail: Tail,
}

/// What to make of bytes at the end that are no whole batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    Refused,
    Ignored,
}

impl<'a> Batches<'a> {
    /// The batches of a buffer that must hold whole batches only.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Batches<'a> {
        Batches {
            rest: bytes,
            tail: Tail::Refused,
        }
    }

    /// The whole batches of a buffer that may end inside a batch, as fetch responses may.
    #[must_use]
    pub fn with_partial_tail(bytes: &'a [u8]) -> Batches<'a> {
        Batches {
            rest: bytes,
            tail: Tail::Ignored,
        }
    }

    /// The bytes not read yet; after the end, those of the partial batch.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match Batch::parse(self.rest) {
            Ok((batch, rest)) => {
                self.rest = rest;
                Some(Ok(batch))
            }
            Err(BatchError::Incomplete { .. }) if self.tail == Tail::Ignored => None,
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

impl std::iter::FusedIterator for Batches<'_> {}

/// The range of `bytes` that the batches from `offset` on occupy, whole batches only.
///
/// For callers that hold the buffer as `Bytes` and want a slice of it: a fetch response begins
/// with the batch that holds the asked offset, which may begin before it.
#[must_use]
pub fn whole_batches(bytes: &[u8]) -> Range<usize> {
    let mut batches = Batches::with_partial_tail(bytes);
    let mut end = 0;
    while let Some(Ok(batch)) = batches.next() {
        end += batch.bytes().len();
    }
    0..end
}

#[cfg(test)]
mod tests;
