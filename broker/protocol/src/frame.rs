//! Frames: a 4-byte size, a header and a message.
//!
//! ```text
//! request    size int32 | header: api key int16, version int16, correlation id int32,
//!                         client id nullable string, (header 2) tags | body
//! response   size int32 | header: correlation id int32, (header 1) tags | body
//! ```
//!
//! Reading the size and bounding it is the business of whoever owns the socket; the functions that
//! decode get what follows it, those that encode put it in front.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use bytes::Bytes;

use crate::api::{ApiKey, VersionRange};
use crate::messages::{RequestHeader, ResponseHeader};
use crate::primitive::{
    Decode, DecodeError, Encode, EncodeError, Reader, Request, Response, Writer,
};

/// The header version that every request begins with, whatever follows.
const COMMON_HEADER_VERSION: i16 = 1;

/// A request whose header has been read.
#[derive(Debug, Clone)]
pub struct RequestFrame<'a> {
    /// The API that is called.
    pub api: ApiKey,
    /// The version of the body, which exists.
    pub version: i16,
    /// What the response must repeat.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<Cow<'a, str>>,
    /// A reader at the start of the body.
    pub body: Reader<'a>,
}

impl<'a> RequestFrame<'a> {
    /// Reads the body. As in Kafka, bytes that follow it are ignored.
    ///
    /// # Errors
    /// The body is no such request.
    ///
    /// # Panics
    /// `T` is the message of another API, which is an error of the caller's dispatch.
    pub fn decode<T: Request + Decode<'a>>(&self) -> Result<T, DecodeError> {
        assert_eq!(T::API_KEY, self.api, "a request is read as what it is");
        T::decode(&mut self.body.clone(), self.version)
    }
}

/// A request that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No API that a listener serves has that number.
    #[error("there is no API {key} (version {version})")]
    UnknownApi {
        /// The number.
        key: i16,
        /// The version that goes with it.
        version: i16,
    },
    /// The API has no such version. For ApiVersions the answer is version 0 with
    /// UNSUPPORTED_VERSION; for others the connection is closed.
    #[error("{api} has versions {versions}, not {version}")]
    UnsupportedVersion {
        /// The API.
        api: ApiKey,
        /// The version that was asked for.
        version: i16,
        /// The versions that exist.
        versions: VersionRange,
        /// What the response must repeat.
        correlation_id: i32,
        /// What the client calls itself.
        client_id: Option<String>,
    },
    /// The header is damaged.
    #[error("the request header is damaged")]
    Header(#[from] DecodeError),
}

/// Reads the header of a request from what follows the frame's size.
///
/// # Errors
/// The API or the version does not exist, or the header is damaged.
pub fn decode_request(frame: &[u8]) -> Result<RequestFrame<'_>, RequestError> {
    let mut peek = Reader::new(frame);
    let key = peek.int16()?;
    let version = peek.int16()?;
    let api = ApiKey::from_number(key).ok_or(RequestError::UnknownApi { key, version })?;
    let versions = api.versions();
    let known = versions.contains(version);
    // Of a version from the future only the part that all versions share can be trusted.
    let header_version = if known {
        api.request_header_version(version)
    } else {
        COMMON_HEADER_VERSION
    };
    let mut body = Reader::new(frame);
    let header = RequestHeader::decode(&mut body, header_version)?;
    let (correlation_id, client_id) = (header.correlation_id, header.client_id);
    if !known {
        let client_id = client_id.map(Cow::into_owned);
        return Err(RequestError::UnsupportedVersion {
            api,
            version,
            versions,
            correlation_id,
            client_id,
        });
    }
    Ok(RequestFrame {
        api,
        version,
        correlation_id,
        client_id,
        body,
    })
}

/// Reads the header of a response from what follows the frame's size; gives the correlation id and
/// a reader at the start of the body.
///
/// # Errors
/// The header is damaged.
pub fn decode_response(
    frame: &[u8],
    api: ApiKey,
    version: i16,
) -> Result<(i32, Reader<'_>), DecodeError> {
    let mut reader = Reader::new(frame);
    let header = ResponseHeader::decode(&mut reader, api.response_header_version(version))?;
    Ok((header.correlation_id, reader))
}

/// Writes a whole request frame, its size included, as chunks to be sent in order.
///
/// # Errors
/// `version` cannot carry the request, or it is too long.
pub fn encode_request<T: Request>(
    correlation_id: i32,
    client_id: Option<&str>,
    version: i16,
    body: &T,
) -> Result<Vec<Bytes>, EncodeError> {
    let header = RequestHeader {
        request_api_key: T::API_KEY.number(),
        request_api_version: version,
        correlation_id,
        client_id: client_id.map(Cow::Borrowed),
    };
    encode(
        &header,
        T::API_KEY.request_header_version(version),
        body,
        version,
    )
}

/// Writes a whole response frame, its size included, as chunks to be sent in order. Large records
/// are chunks of their own and are not copied.
///
/// # Errors
/// `version` cannot carry the response, or it is too long.
pub fn encode_response<T: Response>(
    correlation_id: i32,
    version: i16,
    body: &T,
) -> Result<Vec<Bytes>, EncodeError> {
    let header = ResponseHeader { correlation_id };
    encode(
        &header,
        T::API_KEY.response_header_version(version),
        body,
        version,
    )
}

/// Most answers fit; larger ones grow the buffer.
const FRAME_BYTES_EXPECTED: usize = 256;

fn encode(
    header: &impl Encode,
    header_version: i16,
    body: &impl Encode,
    version: i16,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut writer = Writer::with_capacity(FRAME_BYTES_EXPECTED);
    writer.int32(0); // The size, known at the end.
    header.encode(&mut writer, header_version)?;
    body.encode(&mut writer, version)?;
    writer.finish_frame()
}
