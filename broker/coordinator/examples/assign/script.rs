//! Scripts of groups that live: members join, change and leave, topics grow, and in between an
//! assignor is asked. `e2e/tools/assignors/Oracle.java` reads the same scripts.
//!
//! ```text
//! group NAME                         forgets everything before it
//! topic LABEL HEX PARTITIONS         a topic is created, or grows; labels sort as ids do
//! member ID INSTANCE LABEL,LABEL     a member joins, or changes; `-` for no instance and no topics
//! leave ID
//! replace OLD NEW                    a static member comes back under another id
//! assign ASSIGNOR homogeneous        the target assignment is computed, kept and answered,
//! assign ASSIGNOR heterogeneous      one line for each member and a last one:
//!
//! NAME ID LABEL:0,1,2 LABEL:7
//! NAME done ROUND
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use esker_coordinator::assignor::{self, Assignment, Assignor, MemberSpec, Spec};
use esker_protocol::TopicId;

/// The group of a script, as the lines up to now have left it.
#[derive(Default)]
pub(crate) struct Group {
    name: String,
    round: usize,
    topics: BTreeMap<TopicId, Topic>,
    ids: BTreeMap<String, TopicId>,
    members: BTreeMap<String, Member>,
}

struct Topic {
    label: String,
    partitions: i32,
}

#[derive(Default)]
struct Member {
    instance_id: Option<String>,
    topics: BTreeSet<TopicId>,
    target: Assignment,
}

impl Group {
    /// Does what one line of a script says and returns the answer to it.
    pub(crate) fn apply(&mut self, line: &str) -> Result<String, String> {
        self.act(line)
            .ok_or_else(|| format!("not a line of a script: {line}"))?
    }

    fn act(&mut self, line: &str) -> Option<Result<String, String>> {
        let words: Vec<&str> = line.split(' ').collect();
        match *words.as_slice() {
            ["group", name] => {
                *self = Group {
                    name: name.to_owned(),
                    ..Group::default()
                };
            }
            ["topic", label, id, partitions] => {
                let id = TopicId::from_hex(id)?;
                self.ids.insert(label.to_owned(), id);
                let topic = Topic {
                    label: label.to_owned(),
                    partitions: partitions.parse().ok()?,
                };
                self.topics.insert(id, topic);
            }
            ["member", id, instance_id, topics] => {
                let labels = topics.split(',').filter(|label| *label != "-");
                let topics = labels.map(|label| self.ids.get(label).copied());
                let topics = topics.collect::<Option<_>>()?;
                let member = self.members.entry(id.to_owned()).or_default();
                member.instance_id = (instance_id != "-").then(|| instance_id.to_owned());
                member.topics = topics;
            }
            ["leave", id] => {
                self.members.remove(id)?;
            }
            ["replace", old, new] => {
                let member = self.members.remove(old)?;
                self.members.insert(new.to_owned(), member);
            }
            ["assign", assignor, kind] => {
                let homogeneous = match kind {
                    "homogeneous" => true,
                    "heterogeneous" => false,
                    _ => return None,
                };
                return Some(self.assign(Assignor::parse(assignor)?, homogeneous));
            }
            _ => return None,
        }
        Some(Ok(String::new()))
    }

    fn assign(&mut self, assignor: Assignor, homogeneous: bool) -> Result<String, String> {
        let members = self.members.iter().map(|(id, member)| {
            let spec = MemberSpec {
                instance_id: member.instance_id.as_deref(),
                topics: &member.topics,
                owned: &member.target,
            };
            (id.as_str(), spec)
        });
        let spec = Spec {
            members: members.collect(),
            homogeneous,
        };
        let counts = |id| Some(self.topics.get(&id)?.partitions);
        let assignments =
            assignor::assign(assignor, &spec, &counts).map_err(|error| error.to_string())?;

        let mut answer = String::new();
        let mut targets = Vec::new();
        for (id, assignment) in assignments {
            answer += &format!("{} {id}", self.name);
            for (topic, partitions) in &assignment {
                let label = self.topics.get(topic).map_or("?", |topic| &topic.label);
                let separators = std::iter::once(':').chain(std::iter::repeat(','));
                answer += &format!(" {label}");
                for (separator, partition) in separators.zip(partitions) {
                    let _ = write!(answer, "{separator}{partition}");
                }
            }
            answer.push('\n');
            targets.push((id.to_owned(), assignment));
        }
        self.round += 1;
        answer += &format!("{} done {}\n", self.name, self.round);
        for (id, target) in targets {
            self.members.entry(id).or_default().target = target;
        }
        Ok(answer)
    }
}
