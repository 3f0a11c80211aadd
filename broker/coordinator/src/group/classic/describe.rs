//! DescribeGroups.

use esker_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};

use super::{ClassicGroup, State};

impl ClassicGroup {
    /// Metadata is shown once the group is stable: before, members may disagree on the protocol.
    pub(crate) fn describe(&self) -> DescribedGroup<'static> {
        let protocol = match self.state {
            State::Stable => self.protocol(),
            _ => None,
        };
        let members = self.members.iter().map(|(member_id, member)| {
            let metadata = protocol.and_then(|protocol| member.metadata(protocol));
            DescribedGroupMember {
                member_id: (**member_id).to_owned().into(),
                group_instance_id: member.instance_id.as_deref().map(|id| id.to_owned().into()),
                client_id: member.client_id.clone().into(),
                client_host: member.client_host.clone().into(),
                member_metadata: metadata.map_or(Vec::new(), |bytes| bytes.to_vec()).into(),
                member_assignment: member.assignment.to_vec().into(),
            }
        });
        DescribedGroup {
            group_id: (*self.id).to_owned().into(),
            group_state: self.state.name().into(),
            protocol_type: self.protocol_type().unwrap_or("").to_owned().into(),
            protocol_data: protocol.unwrap_or("").to_owned().into(),
            members: members.collect(),
            ..DescribedGroup::default()
        }
    }
}
