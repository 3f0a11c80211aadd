//! InitProducerId: hands out ids to idempotent producers.

use std::sync::Arc;
use std::time::Duration;

use esker_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};
use esker_protocol::{ErrorCode, ProducerId};

use super::Answer;
use crate::broker::Shared;
use crate::connection::Reply;

/// How long an answer waits for a block of ids.
const WAIT_TIME_MAX: Duration = Duration::from_secs(5);

async fn next_id(shared: &Arc<Shared>) -> Result<ProducerId, String> {
    match tokio::time::timeout(WAIT_TIME_MAX, shared.producer_ids.next(shared)).await {
        Ok(next) => next.map_err(|error| error.to_string()),
        Err(_) => Err("the metadata store does not answer".to_owned()),
    }
}

/// Answers with a fresh producer id and epoch 0.
pub(crate) async fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    request: &InitProducerIdRequest<'_>,
) -> Reply {
    let refuse = |code: ErrorCode| InitProducerIdResponse {
        error_code: code.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdResponse::default()
    };
    let response = match request.transactional_id.as_deref() {
        Some("") => refuse(ErrorCode::InvalidRequest),
        // Transactions are not served here; no coordinator leads the id's partition.
        Some(_) => refuse(ErrorCode::NotCoordinator),
        None if (request.producer_id == -1) != (request.producer_epoch == -1) => {
            refuse(ErrorCode::InvalidRequest)
        }
        None => match next_id(shared).await {
            Ok(id) => InitProducerIdResponse {
                error_code: ErrorCode::None.code(),
                producer_id: id.0,
                producer_epoch: 0,
                ..InitProducerIdResponse::default()
            },
            Err(error) => {
                tracing::warn!(%error, "no producer id can be allocated");
                refuse(ErrorCode::CoordinatorLoadInProgress)
            }
        },
    };
    super::reply(&answer, &response)
}
