//! Which part of which group answers a request.

use std::sync::Arc;

use esker_protocol::ErrorCode;
use esker_protocol::messages::consumer_group_describe_response::DescribedGroup as DescribedConsumerGroup;
use esker_protocol::messages::describe_groups_response::DescribedGroup;
use esker_protocol::messages::leave_group_request::MemberIdentity;
use esker_protocol::messages::leave_group_response::MemberResponse;
use esker_protocol::messages::list_groups_response::ListedGroup;
use esker_protocol::messages::{
    ConsumerGroupHeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, SyncGroupRequest,
};

use super::{State, refuse};
use crate::group::classic::ClassicGroup;
use crate::group::consumer::ConsumerGroup;
use crate::group::consumer::clipped;
use crate::group::{Group, Turn, migration, offsets};
use crate::step::{Request, RequestContext, Response, Ticket};

/// The version from which a DescribeGroups says that a group does not exist.
const DESCRIBE_NOT_FOUND_VERSION_MIN: i16 = 6;
/// The version from which a LeaveGroup names several members.
const LEAVE_MEMBERS_VERSION_MIN: i16 = 3;

/// The group that a request is for.
pub(super) fn group_id<'r>(request: &'r Request<'_>) -> Option<&'r str> {
    match request {
        Request::JoinGroup(request) => Some(&request.group_id),
        Request::SyncGroup(request) => Some(&request.group_id),
        Request::Heartbeat(request) => Some(&request.group_id),
        Request::LeaveGroup(request) => Some(&request.group_id),
        Request::OffsetCommit(request) => Some(&request.group_id),
        Request::OffsetFetch { group, .. } => Some(&group.group_id),
        Request::OffsetDelete(request) => Some(&request.group_id),
        Request::ConsumerGroupHeartbeat(request) => Some(&request.group_id),
        Request::DescribeGroup(group_id)
        | Request::ConsumerGroupDescribe(group_id)
        | Request::DeleteGroup(group_id) => Some(group_id),
        Request::ListGroups(_) => None,
    }
}

/// What is wrong with a request whatever the group is.
fn check(request: &Request<'_>, turn: &Turn<'_, '_>) -> Result<(), ErrorCode> {
    let settings = turn.view.configuration.settings();
    match request {
        Request::JoinGroup(_)
        | Request::SyncGroup(_)
        | Request::Heartbeat(_)
        | Request::LeaveGroup(_)
        | Request::OffsetDelete(_)
        | Request::ConsumerGroupDescribe(_)
            if group_id(request) == Some("") =>
        {
            Err(ErrorCode::InvalidGroupId)
        }
        Request::JoinGroup(join)
            if !(settings.session_timeout_ms_min..=settings.session_timeout_ms_max)
                .contains(&join.session_timeout_ms) =>
        {
            Err(ErrorCode::InvalidSessionTimeout)
        }
        Request::ConsumerGroupHeartbeat(_) | Request::ConsumerGroupDescribe(_)
            if !settings.consumer_enabled =>
        {
            Err(ErrorCode::UnsupportedVersion)
        }
        _ => Ok(()),
    }
}

impl State {
    /// Members that took `before` bytes take `after`.
    pub(super) fn count_members(&mut self, before: usize, after: usize) {
        let others = self.members_bytes.saturating_sub(before);
        self.members_bytes = others.saturating_add(after);
    }

    /// A commit for a group that is not there makes a simple group of it.
    pub(super) fn ensure_group(&mut self, group_id: &str, is_commit: bool) {
        if is_commit && !self.groups.contains_key(group_id) {
            self.insert_classic(group_id);
        }
    }

    fn insert_classic(&mut self, group_id: &str) {
        let id: Arc<str> = Arc::from(group_id);
        let group = Group::Classic(ClassicGroup::new(id.clone()));
        self.groups.insert(id, group);
    }

    fn is_full(&self, turn: &Turn<'_, '_>) -> bool {
        self.groups.len() >= turn.view.configuration.settings().groups_max
    }

    pub(super) fn dispatch<'r>(
        &mut self,
        request: &'r Request<'_>,
        ticket: Ticket,
        context: &RequestContext<'_>,
        turn: &mut Turn<'_, 'r>,
    ) {
        let held = |state: &State| match group_id(request).and_then(|id| state.groups.get(id)) {
            Some(Group::Classic(group)) => group.bytes(),
            _ => 0,
        };
        let before = held(self);
        let answer = match check(request, turn) {
            Ok(()) => self.answer(request, ticket, context, turn),
            Err(error) => Err(error),
        };
        let after = held(self);
        self.count_members(before, after);
        let response = match answer {
            Ok(None) => return,
            Ok(Some(response)) => response,
            Err(error) => match request {
                Request::JoinGroup(join) => Response::JoinGroup(JoinGroupResponse {
                    error_code: error as i16,
                    member_id: join.member_id.clone().into_owned().into(),
                    ..JoinGroupResponse::default()
                }),
                _ => refuse::refuse(request, context.version, error),
            },
        };
        turn.reply(ticket, response);
    }

    /// The response; none if it comes later or was given.
    fn answer<'r>(
        &mut self,
        request: &'r Request<'_>,
        ticket: Ticket,
        context: &RequestContext<'_>,
        turn: &mut Turn<'_, 'r>,
    ) -> Result<Option<Response>, ErrorCode> {
        let version = context.version;
        let response = match request {
            Request::JoinGroup(request) => {
                self.join(request, ticket, context, turn)?;
                return Ok(None);
            }
            Request::SyncGroup(request) => {
                self.sync(request, ticket, context, turn)?;
                return Ok(None);
            }
            Request::ConsumerGroupHeartbeat(request) => {
                return self.consumer_heartbeat(request, ticket, context, turn);
            }
            Request::Heartbeat(request) => match self.groups.get_mut(&*request.group_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(Group::Classic(group)) => {
                    let instance_id = request.group_instance_id.as_deref();
                    let generation = request.generation_id;
                    group.heartbeat(&request.member_id, instance_id, generation, turn)?;
                    Response::Heartbeat(HeartbeatResponse::default())
                }
                Some(Group::Consumer(group)) => {
                    migration::heartbeat(group, request, ticket, context, turn);
                    return Ok(None);
                }
            },
            Request::LeaveGroup(request) => match self.groups.get_mut(&*request.group_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(Group::Classic(group)) => {
                    Response::LeaveGroup(leave(group, request, version, turn))
                }
                Some(Group::Consumer(group)) => {
                    migration::leave(group, request, ticket, context, turn);
                    return Ok(None);
                }
            },
            Request::OffsetCommit(request) => self.commit(request, version, turn)?,
            Request::OffsetFetch {
                group: request,
                require_stable,
            } => {
                let group = self.groups.get(&*request.group_id);
                let fetched =
                    offsets::fetch::fetch(request, *require_stable, group, &self.offsets)?;
                Response::OffsetFetch(fetched)
            }
            Request::OffsetDelete(request) => self.delete_offsets(request, turn)?,
            Request::DescribeGroup(group_id) => {
                Response::DescribeGroup(self.describe(group_id, version))
            }
            Request::ConsumerGroupDescribe(group_id) => {
                Response::ConsumerGroupDescribe(self.describe_consumer(group_id, turn))
            }
            Request::ListGroups(request) => Response::ListGroups(Ok(self.list(request))),
            Request::DeleteGroup(group_id) => {
                Response::DeleteGroup(match self.delete_group(group_id, turn) {
                    Ok(()) => ErrorCode::None,
                    Err(error) => error,
                })
            }
        };
        Ok(Some(response))
    }

    fn join(
        &mut self,
        request: &JoinGroupRequest<'_>,
        ticket: Ticket,
        context: &RequestContext<'_>,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), ErrorCode> {
        let is_unknown = request.member_id.is_empty();
        let is_full = self.is_full(turn);
        match self.groups.get_mut(&*request.group_id) {
            Some(Group::Classic(group)) => {
                group.join(request, ticket, context, turn);
                return Ok(());
            }
            Some(Group::Consumer(group)) if group.has_members() => {
                migration::join(group, request, ticket, context, turn);
                return Ok(());
            }
            _ if !is_unknown => return Err(ErrorCode::UnknownMemberId),
            Some(Group::Consumer(group)) => turn.records.append(&mut group.tombstones()),
            None if is_full => return Err(ErrorCode::PolicyViolation),
            None => {}
        }
        self.insert_classic(&request.group_id);
        if let Some(Group::Classic(group)) = self.groups.get_mut(&*request.group_id) {
            group.join(request, ticket, context, turn);
            // A group is there from its first member on, before that can be written.
            turn.records.push(group.first_record(turn.view.now.wall));
        }
        Ok(())
    }

    fn sync(
        &mut self,
        request: &SyncGroupRequest<'_>,
        ticket: Ticket,
        context: &RequestContext<'_>,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), ErrorCode> {
        match self.groups.get_mut(&*request.group_id) {
            Some(Group::Classic(group)) => group.sync(request, ticket, turn),
            Some(Group::Consumer(group)) if group.has_members() => {
                migration::sync(group, request, ticket, context, turn);
            }
            Some(Group::Consumer(_)) | None => return Err(ErrorCode::UnknownMemberId),
        }
        Ok(())
    }

    fn consumer_heartbeat(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        ticket: Ticket,
        context: &RequestContext<'_>,
        turn: &mut Turn<'_, '_>,
    ) -> Result<Option<Response>, ErrorCode> {
        let group_id = &*request.group_id;
        let is_full = self.is_full(turn);
        let mut made = None;
        let group = match self.groups.get_mut(group_id) {
            Some(Group::Classic(group)) => {
                migration::consumer_heartbeat(group, request, ticket, context, turn);
                return Ok(None);
            }
            Some(Group::Consumer(group)) => group,
            None if is_full => return Err(ErrorCode::PolicyViolation),
            None => made.insert(ConsumerGroup::new(group_id)),
        };
        let view = turn.view;
        let (mut records, response) =
            group.heartbeat(request, context, &view, turn.timers, turn.random);
        if let Some(group) = made
            && !records.is_empty()
        {
            self.groups
                .insert(Arc::from(group_id), Group::Consumer(group));
        }
        turn.records.append(&mut records);
        Ok(Some(Response::ConsumerGroupHeartbeat(response)))
    }

    fn commit<'r>(
        &self,
        request: &'r OffsetCommitRequest<'_>,
        version: i16,
        turn: &mut Turn<'_, 'r>,
    ) -> Result<Response, ErrorCode> {
        let group = self.groups.get(&*request.group_id);
        if group.is_none() && self.is_full(turn) {
            return Err(ErrorCode::PolicyViolation);
        }
        let response = offsets::commit::commit(request, version, group, turn)?;
        Ok(Response::OffsetCommit(response))
    }

    fn delete_offsets(
        &self,
        request: &OffsetDeleteRequest<'_>,
        turn: &mut Turn<'_, '_>,
    ) -> Result<Response, ErrorCode> {
        let group = self.groups.get(&*request.group_id);
        let group = group.ok_or(ErrorCode::GroupIdNotFound)?;
        let response = offsets::commit::delete(request, group, &self.offsets, turn)?;
        Ok(Response::OffsetDelete(response))
    }

    fn delete_group(&self, group_id: &str, turn: &mut Turn<'_, '_>) -> Result<(), ErrorCode> {
        let group = self.groups.get(group_id);
        let group = group.ok_or(ErrorCode::GroupIdNotFound)?;
        if !group.is_empty() {
            return Err(ErrorCode::NonEmptyGroup);
        }
        self.offsets.delete_all(group_id, &mut turn.records);
        turn.records.append(&mut group.tombstones());
        Ok(())
    }

    fn describe(&self, group_id: &str, version: i16) -> DescribedGroup<'static> {
        let message = match self.groups.get(group_id) {
            Some(Group::Classic(group)) => return group.describe(),
            Some(Group::Consumer(_)) => format!("Group {group_id} is not a classic group."),
            None => clipped(format!("Group {group_id} not found.")),
        };
        let mut described = DescribedGroup {
            group_id: group_id.to_owned().into(),
            group_state: "Dead".into(),
            ..DescribedGroup::default()
        };
        if version >= DESCRIBE_NOT_FOUND_VERSION_MIN {
            described.error_code = ErrorCode::GroupIdNotFound as i16;
            described.error_message = Some(message.into());
        }
        described
    }

    fn describe_consumer(
        &self,
        group_id: &str,
        turn: &Turn<'_, '_>,
    ) -> DescribedConsumerGroup<'static> {
        let message = match self.groups.get(group_id) {
            Some(Group::Consumer(group)) => return group.describe(&turn.view),
            Some(Group::Classic(_)) => format!("Group {group_id} is not a consumer group."),
            None => clipped(format!("Group {group_id} not found.")),
        };
        DescribedConsumerGroup {
            group_id: group_id.to_owned().into(),
            error_code: ErrorCode::GroupIdNotFound as i16,
            error_message: Some(message.into()),
            ..DescribedConsumerGroup::default()
        }
    }

    /// Filters are compared without regard to case; a type that is none matches nothing.
    fn list(&self, request: &ListGroupsRequest<'_>) -> Vec<ListedGroup<'static>> {
        let states = request.states_filter.iter().map(|state| state.trim());
        let states: Vec<&str> = states.collect();
        let matches = |filter: &[&str], name: &str| {
            filter.is_empty()
                || filter
                    .iter()
                    .any(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        let types: Vec<&str> = request.types_filter.iter().map(|name| &**name).collect();
        let groups = self.groups.iter().filter(|(_, group)| {
            matches(&states, group.state_name()) && matches(&types, group.type_name())
        });
        groups
            .map(|(group_id, group)| group.listed(group_id))
            .collect()
    }
}

/// Versions before 3 name one member, and their answer is for it.
fn leave(
    group: &mut ClassicGroup,
    request: &LeaveGroupRequest<'_>,
    version: i16,
    turn: &mut Turn<'_, '_>,
) -> LeaveGroupResponse<'static> {
    if version < LEAVE_MEMBERS_VERSION_MIN {
        let member = MemberIdentity {
            member_id: request.member_id.clone(),
            ..MemberIdentity::default()
        };
        let answer = group.leave(&[member], turn).pop();
        return LeaveGroupResponse {
            error_code: answer.map_or(0, |answer| code(&answer)),
            ..LeaveGroupResponse::default()
        };
    }
    let answers = group.leave(&request.members, turn);
    let members = request.members.iter().zip(&answers);
    let members = members.map(|(member, answer)| MemberResponse {
        member_id: member.member_id.clone().into_owned().into(),
        group_instance_id: member
            .group_instance_id
            .clone()
            .map(|id| id.into_owned().into()),
        error_code: code(answer),
    });
    LeaveGroupResponse {
        members: members.collect(),
        ..LeaveGroupResponse::default()
    }
}

fn code(answer: &Result<(), ErrorCode>) -> i16 {
    answer.map_or_else(|error| error as i16, |()| ErrorCode::None as i16)
}
