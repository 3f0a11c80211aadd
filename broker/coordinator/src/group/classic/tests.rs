//! Classic groups through the shard's door.

mod codes;
mod random;
mod reading;
mod rebalances;
mod statics;

use esker_protocol::ErrorCode;
use esker_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use esker_protocol::messages::leave_group_request::MemberIdentity;
use esker_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use esker_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
    SyncGroupResponse,
};

use crate::world::World;
use crate::{Request, Response, Ticket};

const SESSION_MS: i32 = 10_000;
const REBALANCE_MS: i32 = 60_000;

fn join_request<'a>(
    member_id: &'a str,
    instance_id: Option<&'a str>,
    protocols: &[(&'a str, &'a [u8])],
) -> JoinGroupRequest<'a> {
    let protocols = protocols
        .iter()
        .map(|(name, metadata)| JoinGroupRequestProtocol {
            name: (*name).into(),
            metadata: (*metadata).into(),
        });
    JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        member_id: member_id.into(),
        group_instance_id: instance_id.map(Into::into),
        protocol_type: "consumer".into(),
        protocols: protocols.collect(),
        reason: None,
    }
}

const RANGE: &[(&str, &[u8])] = &[("range", b"m")];

impl World {
    fn join(&mut self, request: JoinGroupRequest<'_>, version: i16) -> Ticket {
        self.send(Request::JoinGroup(request), version)
    }

    fn joined(&mut self, ticket: Ticket) -> JoinGroupResponse<'static> {
        match self.reply(ticket) {
            Some(Response::JoinGroup(response)) => response,
            other => panic!("{other:?}"),
        }
    }

    /// The id that a dynamic member gets before it joins.
    fn new_id(&mut self) -> String {
        let ticket = self.join(join_request("", None, RANGE), 9);
        let response = self.joined(ticket);
        assert_eq!(response.error_code, ErrorCode::MemberIdRequired as i16);
        response.member_id.into_owned()
    }

    fn sync(&mut self, member_id: &str, generation: i32, assignments: &[(&str, &[u8])]) -> Ticket {
        let assignments =
            assignments
                .iter()
                .map(|(member_id, assignment)| SyncGroupRequestAssignment {
                    member_id: (*member_id).into(),
                    assignment: (*assignment).into(),
                });
        let request = SyncGroupRequest {
            group_id: "g".into(),
            generation_id: generation,
            member_id: member_id.into(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments: assignments.collect(),
            ..SyncGroupRequest::default()
        };
        self.send(Request::SyncGroup(request), 5)
    }

    fn synced(&mut self, ticket: Ticket) -> SyncGroupResponse<'static> {
        match self.reply(ticket) {
            Some(Response::SyncGroup(response)) => response,
            other => panic!("{other:?}"),
        }
    }

    fn heartbeat(&mut self, member_id: &str, generation: i32) -> i16 {
        let request = HeartbeatRequest {
            group_id: "g".into(),
            generation_id: generation,
            member_id: member_id.into(),
            group_instance_id: None,
        };
        match self.ask(Request::Heartbeat(request), 4) {
            Response::Heartbeat(response) => response.error_code,
            other => panic!("{other:?}"),
        }
    }

    fn leave(&mut self, member_id: &str, instance_id: Option<&str>) -> i16 {
        let request = LeaveGroupRequest {
            group_id: "g".into(),
            members: vec![MemberIdentity {
                member_id: member_id.into(),
                group_instance_id: instance_id.map(Into::into),
                reason: None,
            }],
            ..LeaveGroupRequest::default()
        };
        match self.ask(Request::LeaveGroup(request), 5) {
            Response::LeaveGroup(response) => {
                assert_eq!(response.error_code, 0);
                response.members[0].error_code
            }
            other => panic!("{other:?}"),
        }
    }

    fn state(&mut self) -> String {
        match self.ask(Request::DescribeGroup("g"), 6) {
            Response::DescribeGroup(group) => group.group_state.into_owned(),
            other => panic!("{other:?}"),
        }
    }

    /// A stable group of `count` members; their ids, the leader's first.
    fn stable(&mut self, count: usize) -> Vec<String> {
        let ids: Vec<String> = (0..count).map(|_| self.new_id()).collect();
        let joins: Vec<Ticket> = ids
            .iter()
            .map(|id| self.join(join_request(id, None, RANGE), 9))
            .collect();
        self.advance(6_000);
        let joined: Vec<_> = joins
            .into_iter()
            .map(|ticket| self.joined(ticket))
            .collect();
        let leader = joined[0].leader.clone().into_owned();
        let generation = joined[0].generation_id;
        let mut ids: Vec<String> = ids;
        ids.sort_by_key(|id| *id != leader);
        let assignments: Vec<(&str, &[u8])> =
            ids.iter().map(|id| (id.as_str(), id.as_bytes())).collect();
        let mut syncs = vec![self.sync(&leader, generation, &assignments)];
        for id in ids.iter().skip(1) {
            syncs.push(self.sync(id, generation, &[]));
        }
        for (id, ticket) in ids.iter().zip(syncs) {
            let response = self.synced(ticket);
            assert_eq!(response.error_code, 0);
            assert_eq!(&*response.assignment, id.as_bytes());
        }
        assert_eq!(self.state(), "Stable");
        ids
    }
}
