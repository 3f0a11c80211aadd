//! All messages behind one face.

use esker_protocol::messages;
use esker_protocol::primitive::{
    Decode, DecodeError, Encode, Message, Reader, VersionRange, Writer,
};
use esker_protocol::sample::{self, Random};

/// A value's bytes, and its text for comparison: unlike `==` it holds for NaN.
#[derive(Debug, PartialEq)]
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) text: String,
}

/// What tests do with a message, whichever it is.
pub(crate) struct Codec {
    pub(crate) name: &'static str,
    pub(crate) versions: VersionRange,
    /// Makes up a value and encodes it.
    pub(crate) sample: fn(&mut Random, i16) -> Encoded,
    /// Decodes exactly these bytes and encodes the value again.
    pub(crate) reencode: fn(&[u8], i16) -> Result<Encoded, DecodeError>,
}

fn encoded<T: Encode + std::fmt::Debug>(value: &T, version: i16) -> Encoded {
    let mut writer = Writer::new();
    value
        .encode(&mut writer, version)
        .expect("a version carries what it decodes");
    Encoded {
        bytes: writer.into_bytes().to_vec(),
        text: format!("{value:?}"),
    }
}

macro_rules! codecs {
    ($($name:ident)*) => {
        pub(crate) const CODECS: &[Codec] = &[$(Codec {
            name: <messages::$name as Message>::NAME,
            versions: <messages::$name as Message>::VERSIONS,
            sample: |random, version| {
                encoded(&sample::message::<messages::$name>(random, version), version)
            },
            reencode: |bytes, version| {
                let mut reader = Reader::new(bytes);
                let value = messages::$name::decode(&mut reader, version)?;
                reader.finish()?;
                Ok(encoded(&value, version))
            },
        },)*];
    };
}

esker_protocol::with_messages!(codecs);

/// All messages in all their versions.
pub(crate) fn every_version() -> impl Iterator<Item = (&'static Codec, i16)> {
    CODECS
        .iter()
        .flat_map(|codec| codec.versions.iter().map(move |version| (codec, version)))
}
