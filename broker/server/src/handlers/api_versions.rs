//! ApiVersions: what this broker serves.

use std::borrow::Cow;

use esker_metadata::Image;
use esker_metadata::features::{self, FEATURES};
use esker_protocol::ErrorCode;
use esker_protocol::api::ApiKey;
use esker_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use esker_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::Answer;
use crate::broker::Shared;
use crate::connection::Reply;
use crate::dispatch::{SERVED, Served};

/// Answers with the table of served APIs.
pub(crate) fn apply(shared: &Shared, answer: Answer, request: &ApiVersionsRequest<'_>) -> Reply {
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
    let mut response = ApiVersionsResponse {
        error_code: error.code(),
        api_keys,
        ..ApiVersionsResponse::default()
    };
    if named_well && answer.version >= FEATURES_VERSION_MIN {
        describe_features(&shared.image(), answer.version, &mut response);
    }
    super::reply(&answer, &response)
}

/// The first version that shows features, and the first that may show a least level of 0.
const FEATURES_VERSION_MIN: i16 = 3;
const FEATURES_FROM_ZERO_VERSION_MIN: i16 = 4;

fn describe_features(image: &Image, version: i16, response: &mut ApiVersionsResponse<'_>) {
    response.supported_features = FEATURES
        .iter()
        .filter(|feature| feature.min > 0 || version >= FEATURES_FROM_ZERO_VERSION_MIN)
        .map(|feature| SupportedFeatureKey {
            name: Cow::Borrowed(feature.name),
            min_version: feature.min,
            max_version: feature.max,
        })
        .collect();
    // The levels are part of the cluster's key.
    let revision = image.cluster().map(|cluster| cluster.revision.0);
    response.finalized_features_epoch = revision
        .and_then(|revision| i64::try_from(revision).ok())
        .unwrap_or(-1);
    response.finalized_features = features::finalized(image)
        .into_iter()
        .filter(|(_, level)| *level > 0)
        .map(|(name, level)| FinalizedFeatureKey {
            name: Cow::Borrowed(name),
            max_version_level: level,
            min_version_level: level,
        })
        .collect();
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
