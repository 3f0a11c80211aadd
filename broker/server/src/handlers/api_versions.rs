//! ApiVersions: what this broker serves.

use esker_protocol::ErrorCode;
use esker_protocol::api::ApiKey;
use esker_protocol::messages::api_versions_response::ApiVersion;
use esker_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::Answer;
use crate::connection::Reply;
use crate::dispatch::{SERVED, Served};

/// Answers with the table of served APIs.
pub(crate) fn apply(answer: Answer, request: &ApiVersionsRequest<'_>) -> Reply {
    // Since version 3 a client names itself, in a form that can stand in logs and metrics.
    let named_well = answer.version < 3
        || (is_software_name(&request.client_software_name)
            && is_software_name(&request.client_software_version));
    let error = if named_well {
        ErrorCode::None
    } else {
        ErrorCode::InvalidRequest
    };
    let api_keys = if named_well {
        SERVED.iter().map(row).collect()
    } else {
        Vec::new()
    };
    super::reply(
        &answer,
        &ApiVersionsResponse {
            error_code: error.code(),
            api_keys,
            supported_features: Vec::new(),
            finalized_features_epoch: -1,
            ..ApiVersionsResponse::default()
        },
    )
}

/// Answers a version that is not known: in the form of version 0, with the one row that lets the
/// client choose another version (KIP-511).
pub(crate) fn refuse_version(correlation_id: i32) -> Reply {
    let answer = Answer {
        version: 0,
        correlation_id,
    };
    let own = SERVED
        .iter()
        .filter(|served| served.api == ApiKey::ApiVersions);
    super::reply(
        &answer,
        &ApiVersionsResponse {
            error_code: ErrorCode::UnsupportedVersion.code(),
            api_keys: own.map(row).collect(),
            ..ApiVersionsResponse::default()
        },
    )
}

fn row(served: &Served) -> ApiVersion {
    ApiVersion {
        api_key: served.api.number(),
        min_version: served.advertised_min,
        max_version: served.max,
    }
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`
fn is_software_name(name: &str) -> bool {
    let ends_well = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    ends_well(bytes.first())
        && ends_well(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_follow_kip_511() {
        for good in ["a", "apache-kafka-java", "4.3.0", "A1"] {
            assert!(is_software_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a b", "ä", "a_b"] {
            assert!(!is_software_name(bad), "{bad}");
        }
    }
}
