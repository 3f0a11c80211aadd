//! Batches in the codec of their topic, where the producer used another.

use bytes::Bytes;

use super::{ProduceError, ProduceRules, ProducedBatch, Target};
use crate::records::compression::{compress, decompress};
use crate::records::header::BatchHeader;
use crate::records::record::RecordsError;

/// The same records in the target's codec. The limit on a batch's size holds for what comes out, too.
pub(super) fn recompress(
    batch: &ProducedBatch,
    target: Target,
    rules: &ProduceRules,
) -> Result<ProducedBatch, ProduceError> {
    let codec = batch.header.attributes.compression()?;
    let plain = decompress(codec, &batch.payload(), &rules.caps)
        .map_err(|error| ProduceError::Records(RecordsError::Decompress(error)))?;
    let payload = compress(target.codec, target.level, &plain)
        .map_err(|error| ProduceError::Compress(error.to_string()))?;
    let bytes = BatchHeader::BYTES + payload.len();
    let too_large = ProduceError::TooLarge {
        bytes,
        max: rules.message_bytes_max,
    };
    if bytes > rules.message_bytes_max as usize {
        return Err(too_large);
    }
    let length = i32::try_from(bytes - LENGTH_ENDS_AT).map_err(|_| too_large)?;
    let mut header = BatchHeader {
        batch_length: length,
        attributes: batch.header.attributes.with_compression(target.codec),
        ..batch.header
    };
    header.crc = header.crc_with_payload(&payload);
    let mut whole = Vec::with_capacity(bytes);
    whole.extend_from_slice(&header.to_bytes());
    whole.extend_from_slice(&payload);
    Ok(ProducedBatch {
        header,
        bytes: Bytes::from(whole),
    })
}

/// What the length field of a batch does not count: base offset and itself.
const LENGTH_ENDS_AT: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use crate::records::{
        Batch, BatchBuilder, BatchOptions, Caps, Compression, ProduceErrorKind, validate,
    };

    const CODECS: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    fn sent(codec: Compression) -> Bytes {
        let mut builder = BatchBuilder::new(BatchOptions {
            compression: codec,
            ..BatchOptions::default()
        });
        for index in 0..20_i64 {
            builder
                .append(Timestamp(1000 + index), Some(b"key"), Some(&[7; 100]), &[])
                .unwrap();
        }
        builder.build().unwrap()
    }

    fn rules(codec: Compression) -> ProduceRules {
        ProduceRules {
            target: Some(Target { codec, level: None }),
            ..ProduceRules::new(Timestamp(2000))
        }
    }

    #[test]
    fn every_codec_becomes_every_other_with_the_same_records() {
        for from in CODECS {
            for to in CODECS {
                let bytes = sent(from);
                let batch = validate(bytes.clone(), &rules(to)).unwrap();
                if from == to {
                    assert_eq!(batch.bytes, bytes, "{from} stays as it is");
                }
                let (read, rest) = Batch::parse(&batch.bytes).unwrap();
                assert!(rest.is_empty() && read.crc_is_valid(), "{from} to {to}");
                assert_eq!(*read.header(), batch.header);
                assert_eq!(batch.header.attributes.compression(), Ok(to));
                let records = read.records(&Caps::DEFAULT).unwrap();
                let times: Vec<i64> = records.iter().map(|r| r.unwrap().timestamp.0).collect();
                assert_eq!(times, (1000..1020).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn what_grows_beyond_the_limit_is_too_large() {
        let bytes = sent(Compression::Zstd);
        let small = ProduceRules {
            message_bytes_max: 1000,
            ..rules(Compression::None)
        };
        assert!(bytes.len() < 1000);
        let refused = validate(bytes, &small).unwrap_err();
        assert_eq!(refused.kind(), ProduceErrorKind::MessageTooLarge);
    }

    #[test]
    fn what_does_not_decompress_is_refused_and_not_stored() {
        let mut builder = BatchBuilder::default();
        builder.append(Timestamp(1), None, Some(b"v"), &[]).unwrap();
        let plain = builder.build().unwrap();
        let mut bytes = plain.to_vec();
        // Says gzip, and is not.
        bytes[22] = 1;
        let crc = crate::records::crc32c(&bytes[21..]).to_be_bytes();
        bytes[17..21].copy_from_slice(&crc);
        let refused = validate(bytes.into(), &rules(Compression::Zstd)).unwrap_err();
        assert_eq!(refused.kind(), ProduceErrorKind::Undecodable);
    }
}
