use super::*;
use crate::records::golden;
use proptest::prelude::*;

fn roomy(limit: usize) -> Caps {
    Caps {
        output_bytes_max: limit,
        ratio_max: 1,
        free_bytes: limit,
    }
}

fn samples() -> Vec<Vec<u8>> {
    let mixed = (0..200_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> (n % 25)) as u8);
    let text = "a line of text that compresses well\n"
        .repeat(5000)
        .into_bytes();
    vec![Vec::new(), vec![7], vec![0; 65_536], mixed.collect(), text]
}

#[test]
fn streams_read_back_in_every_codec() {
    for codec in Compression::ALL {
        for sample in samples() {
            for level in [None, Some(-1), Some(1), Some(9), Some(17)] {
                let stream = compress(codec, level, &sample).expect("compresses");
                let back = decompress(codec, &stream, &Caps::DEFAULT).expect("reads back");
                assert!(back == sample, "{codec} {level:?} {} bytes", sample.len());
            }
        }
    }
}

#[test]
fn framing_is_that_of_kafkas_client() {
    let frame = compress(Compression::Lz4, None, b"x").unwrap();
    // Version 1, independent blocks, 64 KiB, and the checksum that Kafka's client writes.
    assert_eq!(frame[..7], [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]);
    let framed = compress(Compression::Snappy, None, &[0; 100_000]).unwrap();
    assert_eq!(framed[..16], *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
}

#[test]
fn snappy_comes_raw_too_and_headers_may_recur() {
    let sample = b"one block without a header, as other clients send it".repeat(9);
    let raw = snap::raw::Encoder::new().compress_vec(&sample).unwrap();
    assert_eq!(
        decompress(Compression::Snappy, &raw, &Caps::DEFAULT).unwrap(),
        sample
    );
    let stream = compress(Compression::Snappy, None, &sample).unwrap();
    let twice = decompress(
        Compression::Snappy,
        &[&stream[..], &stream].concat(),
        &Caps::DEFAULT,
    );
    assert_eq!(twice.unwrap(), [&sample[..], &sample].concat());
}

#[test]
fn snappy_frames_end_where_no_length_follows_and_may_be_of_a_newer_version() {
    let sample = b"what is in the stream";
    let stream = compress(Compression::Snappy, None, sample).unwrap();
    let mut newer = stream.clone();
    (newer[11], newer[15]) = (9, 9);
    let more = [&stream[..], b"\0\0\0"].concat();
    for stream in [newer, more] {
        let back = decompress(Compression::Snappy, &stream, &Caps::DEFAULT);
        assert_eq!(back.unwrap(), sample);
    }
    let mut older = stream.clone();
    older[11] = 0;
    let cut = [&stream[..], b"\0\0\0\x05"].concat();
    for stream in [older, cut] {
        assert!(decompress(Compression::Snappy, &stream, &Caps::DEFAULT).is_err());
    }
}

#[test]
fn gzip_members_and_zstd_frames_may_follow_each_other() {
    for codec in [Compression::Gzip, Compression::Zstd] {
        let stream = compress(codec, None, b"again and ").unwrap();
        let twice = decompress(codec, &[&stream[..], &stream].concat(), &Caps::DEFAULT);
        assert_eq!(twice.unwrap(), b"again and again and ");
    }
}

#[test]
fn what_follows_the_members_of_a_gzip_stream_is_no_part_of_it() {
    let stream = compress(Compression::Gzip, None, b"all there is").unwrap();
    for rest in [&b"\0\0\0"[..], &[0; 100], b"\x1f\x8b", &[0x1f; 40]] {
        let back = decompress(
            Compression::Gzip,
            &[&stream[..], rest].concat(),
            &Caps::DEFAULT,
        );
        assert_eq!(back.unwrap(), b"all there is", "{rest:02x?}");
    }
    // A second member that begins must also end.
    let cut = [&stream[..], &stream[..stream.len() - 1]].concat();
    assert!(decompress(Compression::Gzip, &cut, &Caps::DEFAULT).is_err());
    assert!(decompress(Compression::Gzip, &[0; 40], &Caps::DEFAULT).is_err());
}

#[test]
fn a_zstd_stream_without_frames_is_empty() {
    assert_eq!(
        decompress(Compression::Zstd, b"", &Caps::DEFAULT),
        Ok(Vec::new())
    );
    assert!(decompress(Compression::Gzip, b"", &Caps::DEFAULT).is_err());
}

#[test]
fn the_members_of_a_gzip_stream_share_one_limit() {
    let member = compress(Compression::Gzip, None, &[7; 600]).unwrap();
    let stream = [&member[..], &member].concat();
    assert!(decompress(Compression::Gzip, &stream, &roomy(1200)).is_ok());
    let error = decompress(Compression::Gzip, &stream, &roomy(1199)).expect_err("too large");
    assert!(matches!(error, DecompressError::TooLarge { .. }), "{error}");
}

#[test]
fn lz4_frames_of_other_writers_are_read() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let sample = b"frames with sizes and checksums ".repeat(20_000);
    for size in [
        BlockSize::Max64KB,
        BlockSize::Max256KB,
        BlockSize::Max1MB,
        BlockSize::Max4MB,
    ] {
        let info = FrameInfo::new()
            .block_size(size)
            .block_mode(BlockMode::Independent)
            .block_checksums(true)
            .content_checksum(true)
            .content_size(Some(sample.len() as u64));
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&sample).unwrap();
        let mut stream = encoder.finish().unwrap();
        assert_eq!(
            decompress(Compression::Lz4, &stream, &Caps::DEFAULT).unwrap(),
            sample
        );
        // Behind magic, descriptor of 10 bytes, its checksum and the first block's length.
        stream[4 + 10 + 1 + 4 + 100] ^= 1;
        assert!(
            decompress(Compression::Lz4, &stream, &Caps::DEFAULT).is_err(),
            "{size:?}"
        );
    }
    let linked = FrameInfo::new().block_mode(BlockMode::Linked);
    let mut encoder = FrameEncoder::with_frame_info(linked, Vec::new());
    encoder.write_all(&sample).unwrap();
    let stream = encoder.finish().unwrap();
    assert!(decompress(Compression::Lz4, &stream, &Caps::DEFAULT).is_err());
}

#[test]
fn bombs_are_refused_in_every_codec() {
    // 64 MiB of zeros as each codec packs them, refused at 1 MiB.
    let limit = 1 << 20;
    let zeros = vec![0; 64 << 20];
    for codec in golden::codecs() {
        let bomb = compress(codec, Some(1), &zeros).unwrap();
        let error = decompress(codec, &bomb, &roomy(limit)).expect_err("a bomb");
        assert!(
            matches!(error, DecompressError::TooLarge { .. }),
            "{codec}: {error}"
        );
    }
    assert!(decompress(Compression::None, &zeros, &roomy(limit)).is_err());
}

#[test]
fn the_ratio_counts_above_what_is_free() {
    let caps = Caps {
        output_bytes_max: 100_000,
        ratio_max: 10,
        free_bytes: 1000,
    };
    assert_eq!(caps.limit(1), 1000);
    assert_eq!(caps.limit(500), 5000);
    assert_eq!(caps.limit(50_000), 100_000);
    for codec in golden::codecs() {
        let stream = compress(codec, None, &[0; 60_000]).unwrap();
        let allowed = decompress(codec, &stream, &caps).is_ok();
        assert_eq!(
            allowed,
            stream.len() * 10 >= 60_000,
            "{codec}: {}",
            stream.len()
        );
    }
}

#[test]
fn claims_are_not_believed() {
    // A raw snappy block that claims 2 GiB less a byte and has six.
    let snappy = [0xff, 0xff, 0xff, 0xff, 0x07, 0x00];
    // The same within the limit: refused because six bytes cannot become a mebibyte.
    let modest = [0x80, 0x80, 0x40, 0x00, 0x00, 0x00];
    // An lz4 block of 4 GiB less a byte, stored as is.
    let mut lz4 = compress(Compression::Lz4, None, b"").unwrap();
    lz4.truncate(7);
    lz4.extend_from_slice(&u32::MAX.to_le_bytes());
    // A snappy chunk of 2 GiB less a byte, and one of a negative length.
    let header = compress(Compression::Snappy, None, b"").unwrap();
    let chunk = [&header[..], &i32::MAX.to_be_bytes(), b"x"].concat();
    let negative = [&header[..], &(-1i32).to_be_bytes(), b"x"].concat();
    // A zstd frame whose window is 128 MiB: frame descriptor 0, window exponent 17.
    let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 0x01, 0x00, 0x00];
    for (codec, stream) in [
        (Compression::Snappy, &snappy[..]),
        (Compression::Snappy, &modest),
        (Compression::Snappy, &chunk),
        (Compression::Snappy, &negative),
        (Compression::Lz4, &lz4),
        (Compression::Zstd, &zstd),
    ] {
        assert!(
            decompress(codec, stream, &Caps::DEFAULT).is_err(),
            "{codec} {stream:02x?}"
        );
    }
}

#[test]
fn every_cut_and_flip_of_a_stream_is_survived() {
    let sample = b"mutated in every byte and cut at every length ".repeat(4);
    for codec in golden::codecs() {
        let stream = compress(codec, None, &sample).unwrap();
        for length in 0..stream.len() {
            if let Ok(back) = decompress(codec, &stream[..length], &roomy(1 << 16)) {
                assert!(back.len() < sample.len(), "{codec} cut at {length}");
            }
        }
        for position in 0..stream.len() {
            for bit in 0..8 {
                let mut bad = stream.clone();
                bad[position] ^= 1 << bit;
                if let Ok(back) = decompress(codec, &bad, &roomy(1 << 16)) {
                    assert!(back.len() <= 1 << 16);
                }
            }
        }
    }
}

#[test]
fn names_read_back() {
    for codec in Compression::ALL {
        assert_eq!(codec.name().parse(), Ok(codec));
        assert_eq!(Compression::from_codec(codec.codec()), Some(codec));
    }
    assert!("brotli".parse::<Compression>().is_err());
    assert_eq!(Compression::from_codec(-1), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_read_back(
        bytes in prop::collection::vec(any::<u8>(), 0..5000),
        codec in prop::sample::select(&Compression::ALL[..]),
    ) {
        let stream = compress(codec, None, &bytes).unwrap();
        prop_assert_eq!(decompress(codec, &stream, &Caps::DEFAULT).unwrap(), bytes);
    }
}
