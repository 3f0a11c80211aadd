//! ListConfigResources.

use std::borrow::Cow;
use std::sync::Arc;

use esker_metadata::Image;
use esker_metadata::keys::ConfigKind;
use esker_protocol::ErrorCode;
use esker_protocol::messages::list_config_resources_response::ConfigResource;
use esker_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use super::Answer;
use super::describe_configs::{
    RESOURCE_BROKER, RESOURCE_BROKER_LOGGER, RESOURCE_CLIENT_METRICS, RESOURCE_GROUP,
    RESOURCE_TOPIC, RESOURCES,
};
use crate::broker::Shared;
use crate::connection::Reply;

/// The first version that lists more than subscriptions to clients' metrics.
const ALL_VERSION_MIN: i16 = 1;

/// Answers with the names of what has settings.
pub(crate) fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    listener: &str,
    request: &ListConfigResourcesRequest,
) -> Reply {
    let known: &[i8] = if answer.version >= ALL_VERSION_MIN {
        &RESOURCES
    } else {
        &[RESOURCE_CLIENT_METRICS]
    };
    let wanted = &request.resource_types;
    if wanted.iter().any(|kind| !known.contains(kind)) {
        let response = ListConfigResourcesResponse {
            error_code: ErrorCode::UnsupportedVersion.code(),
            ..Default::default()
        };
        return super::reply(&answer, &response);
    }
    let wanted = if wanted.is_empty() { known } else { wanted };
    let image = shared.image();
    let brokers = || {
        let live = shared.live_brokers(listener).into_iter();
        live.map(|broker| broker.id.to_string()).collect::<Vec<_>>()
    };
    let mut resources = Vec::new();
    for (kind, names) in [
        (
            RESOURCE_GROUP,
            &(|| configured(&image, ConfigKind::Group)) as &dyn Fn() -> Vec<String>,
        ),
        (RESOURCE_CLIENT_METRICS, &|| {
            configured(&image, ConfigKind::ClientMetrics)
        }),
        (RESOURCE_BROKER_LOGGER, &brokers),
        (RESOURCE_BROKER, &brokers),
        (RESOURCE_TOPIC, &|| {
            let topics = image.visible_topics();
            topics.map(|(name, _)| name.to_owned()).collect()
        }),
    ] {
        if wanted.contains(&kind) {
            resources.extend(names().into_iter().map(|name| ConfigResource {
                resource_name: Cow::Owned(name),
                resource_type: kind,
            }));
        }
    }
    super::reply(
        &answer,
        &ListConfigResourcesResponse {
            config_resources: resources,
            ..Default::default()
        },
    )
}

/// The resources of a kind that have any settings now.
fn configured(image: &Image, kind: ConfigKind) -> Vec<String> {
    image
        .configs(kind)
        .filter(|(_, config)| !config.value.configs.is_empty())
        .map(|(name, _)| name.to_owned())
        .collect()
}
