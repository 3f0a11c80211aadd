//! DescribeCluster: the brokers that are there (KIP-700).

use std::borrow::Cow;
use std::sync::Arc;

use esker_protocol::ErrorCode;
use esker_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use esker_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};

use super::Answer;
use crate::broker::Shared;
use crate::connection::Reply;

/// The endpoint type of brokers; 2 are controllers.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// What a client sees that did not ask for its rights.
pub(crate) const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

/// Answers with the live brokers.
pub(crate) fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    listener: &str,
    request: &DescribeClusterRequest,
) -> Reply {
    let refusal = match request.endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some((
            ErrorCode::MismatchedEndpointType,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER".to_owned(),
        )),
        other => Some((
            ErrorCode::UnsupportedEndpointType,
            format!("Unsupported endpoint type {other}"),
        )),
    };
    // The first version knows neither code.
    let refusal = refusal.map(|(code, message)| match answer.version {
        0 => (ErrorCode::InvalidRequest, message),
        _ => (code, message),
    });
    let response = match refusal {
        Some((code, message)) => DescribeClusterResponse {
            error_code: code.code(),
            error_message: Some(Cow::Owned(message)),
            ..DescribeClusterResponse::default()
        },
        None => {
            let brokers = shared.live_brokers(listener);
            DescribeClusterResponse {
                endpoint_type: BROKERS,
                cluster_id: Cow::Borrowed(&shared.cluster_id),
                controller_id: shared.controller_id(),
                brokers: brokers
                    .into_iter()
                    .map(|broker| DescribeClusterBroker {
                        broker_id: broker.id.0,
                        host: Cow::Owned(broker.address.host),
                        port: i32::from(broker.address.port),
                        rack: None,
                        is_fenced: false,
                    })
                    .collect(),
                cluster_authorized_operations: if request.include_cluster_authorized_operations {
                    CLUSTER_OPERATIONS
                } else {
                    OPERATIONS_NOT_ASKED
                },
                ..DescribeClusterResponse::default()
            }
        }
    };
    super::reply(&answer, &response)
}

/// The bits of the operations that exist on a cluster: create, alter, describe, cluster action,
/// describe configs, alter configs, idempotent write. Without an authoriser all are allowed.
pub(crate) const CLUSTER_OPERATIONS: i32 =
    1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
