//! A member of the classic protocol, as the Java consumer is with its defaults.
//!
//! ```text
//! join -> sync -> heartbeats -> leave
//!  ^-------'---------'   REBALANCE_IN_PROGRESS
//! ```

use std::borrow::Cow;
use std::time::Duration;

use esker_protocol::ErrorCode;
use esker_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest,
    SyncGroupResponse, consumer_protocol_assignment, join_group_request, leave_group_request,
    sync_group_request,
};
use esker_protocol::primitive::{Decode, Encode, Reader, Writer};
use tokio::time::{Instant, sleep_until};

use crate::call::Failure;
use crate::crew::Member;
use crate::range;

/// The consumer's defaults.
const HEARTBEAT: Duration = Duration::from_millis(3000);
const SESSION_TIMEOUT_MS: i32 = 45_000;
const REBALANCE_TIMEOUT_MS: i32 = 300_000;
const PROTOCOL_TYPE: &str = "consumer";
/// What the consumer offers, in its order; the members use the first.
const PROTOCOLS: [&str; 2] = ["range", "cooperative-sticky"];
/// Of what consumers keep inside subscriptions and assignments.
const EMBEDDED_VERSION: i16 = 3;

/// Where a code is as good as none.
const NONE: i16 = 0;

struct Joined {
    member_id: String,
    generation: i32,
    protocol: Option<String>,
    /// Of all, when this one leads.
    members: Vec<String>,
}

/// Joins, stays until told to leave, leaves.
pub(crate) async fn live(member: &Member) -> Result<(), Failure> {
    let mut member_id = String::new();
    loop {
        let joined = join(member, &member_id).await?;
        member_id.clone_from(&joined.member_id);
        let Some(partitions) = sync(member, &joined).await? else {
            continue;
        };
        member.report(&member_id, joined.generation, &partitions);
        if stay(member, &joined).await? == Stayed::Left {
            return Ok(());
        }
    }
}

async fn join(member: &Member, member_id: &str) -> Result<Joined, Failure> {
    // The semaphore is never closed.
    let _turn = member.link.joining.acquire().await;
    let subscription = embedded(&ConsumerProtocolSubscription {
        topics: vec![member.shared.topic.name.as_str().into()],
        ..ConsumerProtocolSubscription::default()
    })?;
    let mut request = JoinGroupRequest {
        group_id: member.group.as_str().into(),
        session_timeout_ms: SESSION_TIMEOUT_MS,
        rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
        member_id: member_id.to_owned().into(),
        protocol_type: PROTOCOL_TYPE.into(),
        protocols: PROTOCOLS
            .iter()
            .map(|name| join_group_request::JoinGroupRequestProtocol {
                name: (*name).into(),
                metadata: Cow::Borrowed(&subscription),
            })
            .collect(),
        ..JoinGroupRequest::default()
    };
    let read = |answer: &JoinGroupResponse<'_>| {
        let joined = Joined {
            member_id: answer.member_id.to_string(),
            generation: answer.generation_id,
            protocol: answer.protocol_name.as_deref().map(str::to_owned),
            members: answer
                .members
                .iter()
                .map(|one| one.member_id.to_string())
                .collect(),
        };
        match answer.error_code {
            code if is(code, ErrorCode::MemberIdRequired) => (NONE, (joined, false)),
            code => (code, (joined, true)),
        }
    };
    // The first answer to a new member only names it.
    let (mut joined, mut is_in) = member.link.call(None, &request, read).await?;
    if !is_in {
        request.member_id = joined.member_id.into();
        (joined, is_in) = member.link.call(None, &request, read).await?;
    }
    if is_in {
        return Ok(joined);
    }
    let line = "a member id is asked for twice";
    Err(Failure::Unexpected(line.to_owned()))
}

/// Gives or gets the assignment; nothing when the group has begun to rebalance again.
async fn sync(member: &Member, joined: &Joined) -> Result<Option<Vec<i32>>, Failure> {
    let members: Vec<&str> = joined.members.iter().map(String::as_str).collect();
    let topic = &member.shared.topic;
    let assign = |(member_id, share): (&str, std::ops::Range<i32>)| {
        let assignment = embedded(&ConsumerProtocolAssignment {
            assigned_partitions: vec![consumer_protocol_assignment::TopicPartition {
                topic: topic.name.as_str().into(),
                partitions: share.collect(),
            }],
            user_data: None,
        })?;
        Ok::<_, Failure>(sync_group_request::SyncGroupRequestAssignment {
            member_id: member_id.to_owned().into(),
            assignment: assignment.into(),
        })
    };
    let assigned = range::assign(&members, topic.partitions);
    let assignments: Result<Vec<_>, Failure> = assigned.into_iter().map(assign).collect();
    let request = SyncGroupRequest {
        group_id: member.group.as_str().into(),
        generation_id: joined.generation,
        member_id: joined.member_id.as_str().into(),
        protocol_type: Some(PROTOCOL_TYPE.into()),
        protocol_name: joined.protocol.as_deref().map(Cow::Borrowed),
        assignments: assignments?,
        ..SyncGroupRequest::default()
    };
    let read = |answer: &SyncGroupResponse<'_>| match answer.error_code {
        code if is(code, ErrorCode::RebalanceInProgress) => (NONE, None),
        code => (code, Some(answer.assignment.to_vec())),
    };
    let Some(assignment) = member.link.call(None, &request, read).await? else {
        return Ok(None);
    };
    partitions(&assignment).map(Some)
}

#[derive(PartialEq, Eq)]
enum Stayed {
    /// The group rebalances.
    Called,
    Left,
}

async fn stay(member: &Member, joined: &Joined) -> Result<Stayed, Failure> {
    let request = HeartbeatRequest {
        group_id: member.group.as_str().into(),
        generation_id: joined.generation,
        member_id: joined.member_id.as_str().into(),
        group_instance_id: None,
    };
    let mut next = Instant::now();
    loop {
        next += HEARTBEAT;
        tokio::select! {
            () = sleep_until(next) => {}
            () = member.leave.cancelled() => {
                leave(member, &joined.member_id).await?;
                return Ok(Stayed::Left);
            }
        }
        member.shared.counts.heartbeat();
        let read = |answer: &HeartbeatResponse| match answer.error_code {
            code if is(code, ErrorCode::RebalanceInProgress) => (NONE, true),
            code => (code, false),
        };
        if member.link.call(None, &request, read).await? {
            return Ok(Stayed::Called);
        }
    }
}

async fn leave(member: &Member, member_id: &str) -> Result<(), Failure> {
    let request = LeaveGroupRequest {
        group_id: member.group.as_str().into(),
        members: vec![leave_group_request::MemberIdentity {
            member_id: member_id.into(),
            group_instance_id: None,
            reason: None,
        }],
        ..LeaveGroupRequest::default()
    };
    let read = |answer: &LeaveGroupResponse<'_>| {
        let mut codes = answer.members.iter().map(|one| one.error_code);
        let refused = codes.find(|code| *code != NONE);
        (refused.unwrap_or(answer.error_code), ())
    };
    member.link.call(None, &request, read).await
}

fn is(code: i16, expected: ErrorCode) -> bool {
    code == expected.code()
}

/// A version, then the message.
fn embedded(message: &impl Encode) -> Result<Vec<u8>, Failure> {
    let unwritable = |error| Failure::Unexpected(format!("a message cannot be written: {error}"));
    let mut writer = Writer::with_capacity(64);
    writer.int16(EMBEDDED_VERSION);
    message
        .encode(&mut writer, EMBEDDED_VERSION)
        .map_err(unwritable)?;
    Ok(writer.finish().concat())
}

/// The partitions of an assignment of one topic; nothing stands for none.
fn partitions(assignment: &[u8]) -> Result<Vec<i32>, Failure> {
    if assignment.is_empty() {
        return Ok(Vec::new());
    }
    let unreadable = |error| Failure::Unexpected(format!("an assignment is damaged: {error}"));
    let mut reader = Reader::new(assignment);
    let version = reader.int16().map_err(unreadable)?;
    let assignment =
        ConsumerProtocolAssignment::decode(&mut reader, version).map_err(unreadable)?;
    let topics = assignment.assigned_partitions.into_iter();
    Ok(topics.flat_map(|topic| topic.partitions).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_reads_back() {
        let bytes = embedded(&ConsumerProtocolAssignment {
            assigned_partitions: vec![consumer_protocol_assignment::TopicPartition {
                topic: "t".into(),
                partitions: vec![3, 4],
            }],
            user_data: None,
        });
        assert_eq!(partitions(&bytes.unwrap()).unwrap(), [3, 4]);
    }

    #[test]
    fn no_assignment_is_no_partition_and_a_torn_one_a_failure() {
        assert_eq!(partitions(&[]).unwrap(), Vec::<i32>::new());
        assert!(partitions(&[0, 3, 0]).is_err());
    }
}
