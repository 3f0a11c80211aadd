//! UpdateFeatures: what the cluster agrees on.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_metadata::{Image, features};
use esker_protocol::ErrorCode;
use esker_protocol::messages::update_features_request::FeatureUpdateKey;
use esker_protocol::messages::update_features_response::UpdatableFeatureResult;
use esker_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};

use super::Answer;
use crate::authority::{Commit, commit};
use crate::broker::Shared;
use crate::connection::Reply;
use crate::topics::Refusal;

/// Ways in which a level may change.
const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;

/// How long an update waits for the store. As in Kafka, it is not the client that says.
const UPDATE_TIME_MAX: Duration = Duration::from_secs(30);

/// The last version that answers each feature by itself.
const EACH_VERSION_MAX: i16 = 1;

/// Finalizes other levels, all that are asked for or none.
pub(crate) async fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    request: &UpdateFeaturesRequest<'_>,
) -> Reply {
    let update = update(shared, &request.feature_updates, request.validate_only);
    let updated = match tokio::time::timeout(UPDATE_TIME_MAX, update).await {
        Ok(updated) => updated,
        Err(_) => Err(Refusal::new(
            ErrorCode::RequestTimedOut,
            "The update is still under way.",
        )),
    };
    let response = match updated {
        Ok(()) => UpdateFeaturesResponse {
            error_message: None,
            results: request
                .feature_updates
                .iter()
                .filter(|_| answer.version <= EACH_VERSION_MAX)
                .map(|update| UpdatableFeatureResult {
                    feature: Cow::Owned(update.feature.to_string()),
                    error_code: ErrorCode::None.code(),
                    // What Kafka calls no error.
                    error_message: Some(Cow::Borrowed("NONE")),
                })
                .collect(),
            ..Default::default()
        },
        Err(refusal) => UpdateFeaturesResponse {
            error_code: refusal.code.code(),
            error_message: Some(Cow::Owned(format!(
                "The update failed for all features since the following feature had an error: {}",
                refusal.message
            ))),
            ..Default::default()
        },
    };
    super::reply(&answer, &response)
}

async fn update(
    shared: &Arc<Shared>,
    updates: &[FeatureUpdateKey<'_>],
    validate_only: bool,
) -> Result<(), Refusal> {
    let mut images = shared.images();
    loop {
        let image = Arc::clone(&images.borrow_and_update());
        let levels = check(shared, &image, updates)?;
        let Some(cluster) = image.cluster().filter(|_| !levels.is_empty()) else {
            return Ok(());
        };
        if validate_only {
            return Ok(());
        }
        let transaction = features::finalize(&shared.keys, cluster, &levels);
        let committed = commit(shared.environment.metadata.as_ref(), transaction)
            .await
            .map_err(Refusal::store)?;
        let seen = cluster.revision;
        let moved = |image: &Arc<Image>| match committed {
            Commit::Done(revision) => image.revision() >= revision,
            // The key has changed meanwhile, and the image will show how.
            Commit::Refused | Commit::Moved => {
                image.cluster().map(|cluster| cluster.revision) != Some(seen)
            }
        };
        images.wait_for(moved).await.map_err(Refusal::store)?;
        if matches!(committed, Commit::Done(_)) {
            return Ok(());
        }
    }
}

/// The levels that change.
fn check(
    shared: &Shared,
    image: &Image,
    updates: &[FeatureUpdateKey<'_>],
) -> Result<BTreeMap<String, i16>, Refusal> {
    let finalized = features::finalized(image);
    let mut levels = BTreeMap::new();
    // Of a feature that is named twice the later update counts.
    let wanted: BTreeMap<&str, &FeatureUpdateKey<'_>> = updates
        .iter()
        .map(|update| (update.feature.as_ref(), update))
        .collect();
    for (name, update) in wanted {
        let level = update.max_version_level;
        let refuse = |problem: &str| {
            let message = format!("Invalid update version {level} for feature {name}. {problem}");
            Err(Refusal::new(ErrorCode::InvalidUpdateVersion, message))
        };
        // The first version has a flag instead, which Kafka's controller does not look at: all that
        // it can ask for is an upgrade.
        let kind = update.upgrade_type;
        if ![UPGRADE, SAFE_DOWNGRADE, UNSAFE_DOWNGRADE].contains(&kind) {
            return refuse("The controller does not support the given upgrade type.");
        }
        if level < 0 {
            return refuse("A feature version cannot be less than 0.");
        }
        let own = shared.config.node_id;
        let Some(feature) = features::find(name) else {
            return refuse(&format!(
                "Local controller {own} does not support this feature."
            ));
        };
        if !(feature.min..=feature.max).contains(&level) {
            let (min, max) = (feature.min, feature.max);
            return refuse(&format!(
                "Local controller {own} only supports versions {min}-{max}"
            ));
        }
        let current = finalized.get(feature.name).copied().unwrap_or_default();
        if level < current && kind == UPGRADE {
            return refuse(
                "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade.",
            );
        }
        if level > current && kind != UPGRADE {
            return refuse("Can't downgrade to a newer version.");
        }
        if level != current && feature.name != features::GROUP_VERSION {
            return refuse("The level of this feature is that of the version that runs.");
        }
        if level != current {
            levels.insert(name.to_owned(), level);
        }
    }
    Ok(levels)
}
