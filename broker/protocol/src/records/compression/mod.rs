//! The four codecs, in the stream forms that Kafka's clients read and write.
//!
//! Decompression never allocates what a stream claims: output grows with what was really produced,
//! and stops at [`Caps`].

mod lz4;
mod snappy;

use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;

/// The codec of a batch, and a topic's `compression.type`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// Not compressed.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy blocks in the framing of xerial's Java library, or one raw block.
    Snappy,
    /// An LZ4 frame of independent blocks.
    Lz4,
    /// Zstandard frames.
    Zstd,
}

impl Compression {
    /// All codecs, in the order of their numbers.
    pub const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    /// The codec of a number in a batch's attributes.
    #[must_use]
    pub fn from_codec(codec: i16) -> Option<Compression> {
        Compression::ALL.get(usize::try_from(codec).ok()?).copied()
    }

    /// Its number in a batch's attributes.
    #[must_use]
    pub fn codec(self) -> i16 {
        self as i16
    }

    /// Its name in configurations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no codec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of none, gzip, snappy, lz4, zstd")]
pub struct ParseCompressionError(String);

impl FromStr for Compression {
    type Err = ParseCompressionError;

    fn from_str(text: &str) -> Result<Compression, ParseCompressionError> {
        Compression::ALL
            .into_iter()
            .find(|codec| codec.name() == text)
            .ok_or_else(|| ParseCompressionError(text.chars().take(64).collect()))
    }
}

/// How much a stream may become.
///
/// The limit is the least of `output_bytes_max` and the greater of `free_bytes` and `ratio_max`
/// times the input: honest small batches may compress to almost nothing, so the ratio only counts
/// where it costs real memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// The absolute bound.
    pub output_bytes_max: usize,
    /// Output bytes for each input byte.
    pub ratio_max: usize,
    /// Output that is allowed whatever the ratio.
    pub free_bytes: usize,
}

impl Caps {
    /// 128 MiB, and above 16 MiB not more than a thousandfold.
    pub const DEFAULT: Caps = Caps {
        output_bytes_max: 128 << 20,
        ratio_max: 1000,
        free_bytes: 16 << 20,
    };

    /// What an input of the given size may become.
    #[must_use]
    pub fn limit(&self, input_bytes: usize) -> usize {
        let by_ratio = input_bytes
            .saturating_mul(self.ratio_max)
            .max(self.free_bytes);
        self.output_bytes_max.min(by_ratio)
    }
}

impl Default for Caps {
    fn default() -> Caps {
        Caps::DEFAULT
    }
}

/// A stream does not decompress.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// The bytes are not what the codec says.
    #[error("{codec} stream is malformed: {detail}")]
    Malformed {
        /// The codec.
        codec: Compression,
        /// What its decoder says.
        detail: String,
    },
    /// The output would be larger than allowed.
    #[error(
        "{codec} stream of {input_bytes} bytes exceeds its limit of {limit} decompressed bytes"
    )]
    TooLarge {
        /// The codec.
        codec: Compression,
        /// The size of the stream.
        input_bytes: usize,
        /// What it may become.
        limit: usize,
    },
}

impl DecompressError {
    fn malformed(codec: Compression, detail: impl fmt::Display) -> DecompressError {
        DecompressError::Malformed {
            codec,
            detail: detail.to_string(),
        }
    }
}

/// A stream cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("{codec} compression failed")]
pub struct CompressError {
    codec: Compression,
    #[source]
    source: std::io::Error,
}

/// The largest window of a zstd frame that is read or written: 8 MiB, as the format's own
/// specification recommends decoders to support.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// The highest zstd level whose window stays within that.
const ZSTD_LEVEL_OF_WINDOW_MAX: i32 = 19;
/// Kafka's `compression.zstd.level`.
const ZSTD_LEVEL_DEFAULT: i32 = 3;

/// The smallest header and trailer of a gzip member: nothing shorter is one.
const GZIP_EDGES_BYTES: usize = 18;

/// Decompresses a whole stream.
pub fn decompress(
    codec: Compression,
    bytes: &[u8],
    caps: &Caps,
) -> Result<Vec<u8>, DecompressError> {
    let limit = caps.limit(bytes.len());
    match codec {
        Compression::None if bytes.len() > limit => Err(DecompressError::TooLarge {
            codec,
            input_bytes: bytes.len(),
            limit,
        }),
        Compression::None => Ok(bytes.to_vec()),
        Compression::Gzip => gunzip(bytes, limit),
        Compression::Snappy => snappy::decompress(bytes, limit),
        Compression::Lz4 => lz4::decompress(bytes, limit),
        // No frame at all is a stream of nothing to Java's reader.
        Compression::Zstd if bytes.is_empty() => Ok(Vec::new()),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)
                .map_err(|error| DecompressError::malformed(codec, error))?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG_MAX)
                .map_err(|error| DecompressError::malformed(codec, error))?;
            let mut out = Vec::new();
            read_all(codec, decoder, bytes.len(), limit, &mut out)?;
            Ok(out)
        }
    }
}

/// Decompresses the members of a gzip stream. As in Java's reader, the stream ends with the member
/// behind which no other begins, whatever else is there.
fn gunzip(bytes: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
    let mut out = Vec::new();
    let mut member = flate2::bufread::GzDecoder::new(bytes);
    loop {
        read_all(Compression::Gzip, &mut member, bytes.len(), limit, &mut out)?;
        let rest = member.into_inner();
        if rest.len() <= GZIP_EDGES_BYTES {
            return Ok(out);
        }
        member = flate2::bufread::GzDecoder::new(rest);
        if member.header().is_none() {
            return Ok(out);
        }
    }
}

/// Reads to the end, or until `out` has one byte more than the limit.
fn read_all(
    codec: Compression,
    reader: impl Read,
    input_bytes: usize,
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), DecompressError> {
    let more = limit.saturating_sub(out.len()) as u64 + 1;
    reader
        .take(more)
        .read_to_end(out)
        .map_err(|error| DecompressError::malformed(codec, error))?;
    if out.len() > limit {
        return Err(DecompressError::TooLarge {
            codec,
            input_bytes,
            limit,
        });
    }
    Ok(())
}

/// Compresses in the form that Kafka's Java client reads; without a level, at Kafka's default.
///
/// Snappy has no levels, and lz4 is always written at its fastest.
pub fn compress(
    codec: Compression,
    level: Option<i32>,
    bytes: &[u8],
) -> Result<Vec<u8>, CompressError> {
    let result = match codec {
        Compression::None => Ok(bytes.to_vec()),
        Compression::Gzip => gzip(level, bytes),
        Compression::Snappy => snappy::compress(bytes).map_err(std::io::Error::other),
        Compression::Lz4 => lz4::compress(bytes).map_err(std::io::Error::other),
        Compression::Zstd => zstd(level.unwrap_or(ZSTD_LEVEL_DEFAULT), bytes),
    };
    result.map_err(|source| CompressError { codec, source })
}

fn gzip(level: Option<i32>, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let level = level
        .and_then(|level| u32::try_from(level).ok())
        .map_or(flate2::Compression::default(), |level| {
            flate2::Compression::new(level.min(9))
        });
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn zstd(level: i32, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    if level > ZSTD_LEVEL_OF_WINDOW_MAX {
        compressor.set_parameter(zstd::zstd_safe::CParameter::WindowLog(ZSTD_WINDOW_LOG_MAX))?;
    }
    compressor.compress(bytes)
}

#[cfg(test)]
mod tests;
