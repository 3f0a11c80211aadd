use super::*;

#[test]
fn varints_are_what_they_were_and_never_too_long() {
    for value in [
        0,
        1,
        127,
        128,
        300,
        u64::from(u32::MAX),
        u64::MAX - 1,
        u64::MAX,
    ] {
        let mut writer = Writer::default();
        writer.unsigned_varint(value);
        let bytes = writer.into_bytes();
        assert_eq!(Reader::new(&bytes).unsigned_varint(), Ok(value));
        assert!(
            Reader::new(&bytes[..bytes.len() - 1])
                .unsigned_varint()
                .is_err()
        );
    }
    for value in [0, -1, 1, i64::MIN, i64::MAX] {
        let mut writer = Writer::default();
        writer.varint(value);
        assert_eq!(Reader::new(&writer.into_bytes()).varint(), Ok(value));
    }
    assert!(Reader::new(&[0x80; 20]).unsigned_varint().is_err());
    assert!(
        Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02])
            .unsigned_varint()
            .is_err()
    );
}

#[test]
fn an_array_that_claims_more_than_there_is_allocates_nothing() {
    let mut writer = Writer::default();
    writer.unsigned_varint(u64::MAX);
    writer.u32(0);
    let bytes = writer.into_bytes();
    let read = Reader::new(&bytes).array(4, |reader| reader.u32());
    assert!(matches!(read, Err(WireError::Short { .. })), "{read:?}");
    assert!(Reader::new(&bytes).bytes().is_err());
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    let mut writer = Writer::default();
    for value in [2, 0, 3, 5, 2] {
        writer.unsigned_varint(value);
    }
    let mut bytes = writer.into_bytes();
    // Tag 0 of three bytes, tag 2 of one byte.
    bytes = [&bytes[..1], &[0, 3, 9, 9, 9, 2, 1, 9, 77]].concat();
    let mut reader = Reader::new(&bytes);
    assert_eq!(reader.tags(), Ok(()));
    assert_eq!(reader.i8(), Ok(77));
    assert!(Reader::new(&[1, 0, 9, 1]).tags().is_err());
}

#[test]
fn a_message_is_told_from_others_and_from_its_damage() {
    let bytes = seal(*b"TEST", 3, |writer| writer.i32(5));
    let (mut reader, checksum) = open(*b"TEST", 3, &bytes).unwrap();
    assert_eq!(reader.i32(), Ok(5));
    assert_eq!(checksum, crc32c(&bytes[..bytes.len() - 4]));
    assert_eq!(open(*b"REST", 3, &bytes).unwrap_err(), WireError::Magic);
    assert_eq!(
        open(*b"TEST", 2, &bytes).unwrap_err(),
        WireError::Version(3)
    );
    let mut damaged = bytes.clone();
    damaged[5] ^= 1;
    assert!(matches!(
        open(*b"TEST", 3, &damaged),
        Err(WireError::Checksum { .. })
    ));
    assert!(matches!(
        open(*b"TEST", 3, &bytes[..3]),
        Err(WireError::Short { .. })
    ));
}
