//! The cluster as a whole: brokers, features, log directories.

use std::collections::BTreeMap;
use std::time::Duration;

use esker_protocol::messages::{
    ApiVersionsRequest, DescribeClusterRequest, DescribeLogDirsRequest,
};
use esker_protocol::{BrokerId, ErrorCode};
use tokio::time::Instant;

use super::groups::ByPartition;
use super::nonsense;
use crate::client::{Client, Retry, Target};
use crate::error::{ClientError, check};

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription {
    /// Its id.
    pub cluster_id: String,
    /// The broker that is named as controller.
    pub controller: Option<BrokerId>,
    /// Its brokers.
    pub brokers: BTreeMap<BrokerId, ClusterBroker>,
}

/// A broker of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterBroker {
    /// The name or address that it is reached at.
    pub host: String,
    /// The port, as it says it.
    pub port: i32,
    /// Its rack.
    pub rack: Option<String>,
    /// Whether it is known and not in service.
    pub is_fenced: bool,
}

/// Least and greatest level of a feature.
pub type Levels = (i16, i16);

/// What a broker can do, and what the cluster has agreed on.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Features {
    /// The levels that the asked broker supports.
    pub supported: BTreeMap<String, Levels>,
    /// The levels that are in effect.
    pub finalized: BTreeMap<String, Levels>,
    /// Grows with each change of what is in effect; absent where the broker knows none.
    pub epoch: Option<i64>,
}

/// A log directory of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDir {
    /// Its path on the broker's machine.
    pub path: String,
    /// Why nothing more is known of it.
    pub error: Option<ErrorCode>,
    /// The size of its file system, where it is told.
    pub total_bytes: Option<u64>,
    /// What is free of it, where it is told.
    pub usable_bytes: Option<u64>,
    /// The bytes of each partition that lies in it.
    pub partitions: ByPartition<u64>,
}

impl LogDir {
    /// The bytes of all its partitions.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.partitions
            .values()
            .copied()
            .fold(0, u64::saturating_add)
    }
}

impl Client {
    /// Id, controller and brokers, also those that are not in service.
    pub async fn describe_cluster(
        &self,
        deadline: Instant,
    ) -> Result<ClusterDescription, ClientError> {
        let what = || "describing the cluster".to_owned();
        let mut retry = Retry::new(deadline);
        let answer = loop {
            let attempt = async {
                let link = self.link(Target::Any, retry.attempts(), deadline).await?;
                let version = link.version_of::<DescribeClusterRequest>(None)?;
                let request = DescribeClusterRequest {
                    include_fenced_brokers: version >= FENCED_FROM,
                    ..DescribeClusterRequest::default()
                };
                link.call(version, &request, Duration::ZERO, deadline).await
            };
            match attempt.await {
                Ok(answer) => break answer,
                Err(error) => retry.pause(what, error).await?,
            }
        };
        let response = answer.body().map_err(|error| nonsense(&what(), &error))?;
        check(response.error_code, response.error_message.as_deref(), what)?;
        let brokers = response.brokers.iter().map(|broker| {
            let described = ClusterBroker {
                host: broker.host.to_string(),
                port: broker.port,
                rack: broker.rack.as_deref().map(str::to_owned),
                is_fenced: broker.is_fenced,
            };
            (BrokerId(broker.broker_id), described)
        });
        Ok(ClusterDescription {
            cluster_id: response.cluster_id.to_string(),
            controller: (response.controller_id >= 0).then_some(BrokerId(response.controller_id)),
            brokers: brokers.collect(),
        })
    }

    /// The features that a broker tells of.
    pub async fn features(&self, deadline: Instant) -> Result<Features, ClientError> {
        let what = || "asking for features".to_owned();
        let request = ApiVersionsRequest {
            client_software_name: "esker".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        };
        let answer = self
            .call(Target::Any, None, &request, true, deadline)
            .await?;
        let response = answer.body().map_err(|error| nonsense(&what(), &error))?;
        check(response.error_code, None, what)?;
        let supported = response.supported_features.iter().map(|feature| {
            let levels = (feature.min_version, feature.max_version);
            (feature.name.to_string(), levels)
        });
        let finalized = response.finalized_features.iter().map(|feature| {
            let levels = (feature.min_version_level, feature.max_version_level);
            (feature.name.to_string(), levels)
        });
        let epoch = response.finalized_features_epoch;
        Ok(Features {
            supported: supported.collect(),
            finalized: finalized.collect(),
            epoch: (epoch >= 0).then_some(epoch),
        })
    }

    /// The log directories of a broker.
    pub async fn log_dirs(
        &self,
        broker: BrokerId,
        deadline: Instant,
    ) -> Result<Vec<LogDir>, ClientError> {
        let what = || format!("describing the log directories of broker {broker}");
        let request = DescribeLogDirsRequest { topics: None };
        let answer = self
            .call(Target::Broker(broker), None, &request, true, deadline)
            .await?;
        let response = answer.body().map_err(|error| nonsense(&what(), &error))?;
        check(response.error_code, None, what)?;
        let dirs = response.results.iter().map(|dir| {
            let partitions = dir.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|partition| {
                    let place = (topic.name.to_string(), partition.partition_index);
                    let bytes = u64::try_from(partition.partition_size).unwrap_or(0);
                    (place, bytes)
                })
            });
            let code = ErrorCode::from_code(dir.error_code);
            let code = code.unwrap_or(ErrorCode::UnknownServerError);
            LogDir {
                path: dir.log_dir.to_string(),
                error: (code != ErrorCode::None).then_some(code),
                total_bytes: u64::try_from(dir.total_bytes).ok(),
                usable_bytes: u64::try_from(dir.usable_bytes).ok(),
                partitions: partitions.collect(),
            }
        });
        Ok(dirs.collect())
    }
}

/// The first version of DescribeCluster that can show brokers that are not in service.
const FENCED_FROM: i16 = 2;
