use super::*;
use crate::ErrorCode;
use crate::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FetchResponse, HeartbeatResponse, MetadataRequest,
    ProduceRequest, api_versions_response::ApiVersion, fetch_response, metadata_request,
    produce_request,
};
use crate::primitive::{Blob, SHARED_CHUNK_BYTES_MIN};

/// The bytes of a frame, and what follows its size.
fn joined(chunks: Vec<Bytes>) -> (Vec<u8>, Vec<u8>) {
    let all = chunks.concat();
    let (size, frame) = all.split_first_chunk().expect("a frame has a size");
    assert_eq!(usize::try_from(i32::from_be_bytes(*size)), Ok(frame.len()));
    (all.clone(), frame.to_vec())
}

#[test]
fn api_versions_request_3_is_as_kafkas_clients_send_it() {
    let request = ApiVersionsRequest {
        client_software_name: "apache-kafka-java".into(),
        client_software_version: "4.3.0".into(),
    };
    let (all, frame) = joined(encode_request(7, Some("p-1"), 3, &request).expect("encodes"));
    #[rustfmt::skip]
    let golden = [
        0, 0, 0, 39,                  // size
        0, 18, 0, 3, 0, 0, 0, 7,      // api key, version, correlation id
        0, 3, b'p', b'-', b'1',       // client id, with an int16 length even in header 2
        0,                            // no tagged fields of the header
        18, b'a', b'p', b'a', b'c', b'h', b'e', b'-', b'k', b'a', b'f', b'k', b'a',
        b'-', b'j', b'a', b'v', b'a',
        6, b'4', b'.', b'3', b'.', b'0',
        0,                            // no tagged fields of the body
    ];
    assert_eq!(all, golden);

    let read = decode_request(&frame).expect("decodes");
    assert_eq!(
        (read.api, read.version, read.correlation_id),
        (ApiKey::ApiVersions, 3, 7)
    );
    assert_eq!(read.client_id.as_deref(), Some("p-1"));
    assert_eq!(read.decode::<ApiVersionsRequest>(), Ok(request));
}

#[test]
fn an_unknown_api_versions_version_can_be_answered() {
    // Version 5 with a header that only its own future knows beyond the client id.
    #[rustfmt::skip]
    let frame = [0, 18, 0, 5, 0, 0, 0, 42, 0, 1, b'x', 0xff, 0xff, 0xff];
    let Err(RequestError::UnsupportedVersion {
        api,
        version,
        correlation_id,
        client_id,
        ..
    }) = decode_request(&frame)
    else {
        panic!("version 5 does not exist");
    };
    assert_eq!((api, version, correlation_id), (ApiKey::ApiVersions, 5, 42));
    assert_eq!(client_id.as_deref(), Some("x"));

    let response = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion as i16,
        api_keys: vec![ApiVersion {
            api_key: 18,
            min_version: 0,
            max_version: 4,
        }],
        ..Default::default()
    };
    let (_, frame) = joined(encode_response(42, 0, &response).expect("encodes"));
    assert_eq!(frame, [0, 0, 0, 42, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
}

#[test]
fn metadata_request_1_for_one_topic_and_12_for_all() {
    let topic = metadata_request::MetadataRequestTopic {
        name: Some("ab".into()),
        ..Default::default()
    };
    let request = MetadataRequest {
        topics: Some(vec![topic]),
        ..Default::default()
    };
    let (_, frame) = joined(encode_request(1, None, 1, &request).expect("encodes"));
    #[rustfmt::skip]
    let golden = [0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 1, 0, 2, b'a', b'b'];
    assert_eq!(frame, golden);

    let request = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    let (_, frame) = joined(encode_request(1, Some(""), 12, &request).expect("encodes"));
    // Null topics, auto creation allowed, no authorised operations, no tagged fields.
    assert_eq!(frame, [0, 3, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0]);
}

#[test]
fn responses_have_the_header_of_their_version() {
    let response = HeartbeatResponse {
        throttle_time_ms: 1,
        error_code: 27,
    };
    let (_, frame) = joined(encode_response(9, 3, &response).expect("encodes"));
    assert_eq!(frame, [0, 0, 0, 9, 0, 0, 0, 1, 0, 27]);
    let (_, frame) = joined(encode_response(9, 4, &response).expect("encodes"));
    assert_eq!(frame, [0, 0, 0, 9, 0, 0, 0, 0, 1, 0, 27, 0]);

    let (correlation_id, mut body) =
        decode_response(&frame, ApiKey::Heartbeat, 4).expect("a header");
    assert_eq!(correlation_id, 9);
    assert_eq!(HeartbeatResponse::decode(&mut body, 4), Ok(response));
}

#[test]
fn produce_request_borrows_its_records_from_the_frame() {
    let partition = produce_request::PartitionProduceData {
        index: 3,
        records: Some(Blob::Borrowed(b"batch")),
    };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![produce_request::TopicProduceData {
            name: "t".into(),
            partition_data: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    let (_, frame) = joined(encode_request(5, Some("c"), 9, &request).expect("encodes"));
    #[rustfmt::skip]
    let golden = [
        0, 0, 0, 9, 0, 0, 0, 5, 0, 1, b'c', 0,
        0, 0xff, 0xff, 0, 0, 0x75, 0x30,            // no transactional id, acks, timeout
        2, 2, b't',                                 // one topic
        2, 0, 0, 0, 3, 6, b'b', b'a', b't', b'c', b'h', 0, 0, 0,
    ];
    assert_eq!(frame, golden);

    let frame = Bytes::from(frame);
    let read: ProduceRequest<'_> = decode_request(&frame)
        .expect("decodes")
        .decode()
        .expect("a body");
    assert_eq!(read, request);
    let Some(Blob::Borrowed(records)) = read.topic_data[0].partition_data[0].records else {
        panic!("decoded records are borrowed");
    };
    assert_eq!(frame.slice_ref(records), Bytes::from_static(b"batch"));
}

#[test]
fn large_records_leave_as_the_chunks_that_came() {
    let large = Bytes::from(vec![7; SHARED_CHUNK_BYTES_MIN]);
    let small = Bytes::from_static(b"small");
    let partition = |blob: Blob<'static>| fetch_response::PartitionData {
        records: Some(blob),
        ..Default::default()
    };
    let response = FetchResponse {
        responses: vec![fetch_response::FetchableTopicResponse {
            topic: "t".into(),
            partitions: vec![
                partition(Blob::Shared(large.clone())),
                partition(Blob::Chunks(vec![
                    large.clone(),
                    small.clone(),
                    large.clone(),
                ])),
            ],
            ..Default::default()
        }],
        ..Default::default()
    };
    let chunks = encode_response(1, 11, &response).expect("encodes");
    let shared = chunks
        .iter()
        .filter(|chunk| chunk.as_ptr() == large.as_ptr())
        .count();
    assert_eq!(
        (chunks.len(), shared),
        (6, 3),
        "own, large, own, large, own with small, large"
    );

    let (_, frame) = joined(chunks);
    let (_, mut body) = decode_response(&frame, ApiKey::Fetch, 11).expect("a header");
    let read = FetchResponse::decode(&mut body, 11).expect("a body");
    assert_eq!(body.finish(), Ok(()));
    assert_eq!(read.responses, response.responses);
}

#[test]
fn damaged_headers_and_unknown_apis_are_told_apart() {
    assert_eq!(
        decode_request(&[0, 52, 0, 1]).err(),
        Some(RequestError::UnknownApi {
            key: 52,
            version: 1
        })
    );
    for frame in [
        &[][..],
        &[0],
        &[0, 3, 0],
        &[0, 3, 0, 1, 0, 0],
        &[0, 3, 0, 1, 0, 0, 0, 1, 0, 9],
    ] {
        assert!(
            matches!(decode_request(frame), Err(RequestError::Header(_))),
            "{frame:?}"
        );
    }
}
