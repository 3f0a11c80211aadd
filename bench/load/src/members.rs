//! One group of many members, each with a connection of its own.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::arguments::Members;
use crate::board::{Board, Place};
use crate::call::Failure;
use crate::crew::Crew;
use crate::phase;
use crate::target::Target;

pub(crate) async fn run(target: &Target, options: &Members) -> Result<(), Failure> {
    let members = usize::from(options.members);
    if options.partitions < options.members {
        let line = "there must be a partition for each member";
        return Err(Failure::Unexpected(line.to_owned()));
    }
    let topic = target.make_topic(&[]).await?;
    // One more, for the member that comes later.
    let mut links = target.links(members + 1).await?;
    let Some(spare) = links.pop() else {
        return Err(Failure::Unexpected("no connection was opened".to_owned()));
    };
    target.find_coordinator(&spare).await?;
    let connections = links.len() + 1;
    phase::ended("prepare", json!({ "connections": connections })).await;

    let board = Board::new(1, members, topic.partitions);
    let counts = &target.counts;
    let mut crew = Crew::new(options.protocol, topic, counts.clone(), board);
    let began = Instant::now();
    let mut leaving = None;
    for (member, link) in links.into_iter().enumerate() {
        let place = Place { group: 0, member };
        let leave = crew.add(link, target.name.clone(), place);
        if member == members / 2 {
            leaving = Some((place, leave));
        }
    }
    crew.come_to_rest().await?;
    let figures = json!({ "seconds": began.elapsed().as_secs_f64(), "again": counts.again() });
    phase::ended("join", figures).await;

    phase::hold(&mut crew, Duration::from_secs(options.hold)).await?;

    let began = Instant::now();
    if let Some((place, leave)) = leaving {
        crew.shared().board().replace(place);
        leave.cancel();
    }
    let place = Place {
        group: 0,
        member: members,
    };
    crew.add(spare, target.name.clone(), place);
    crew.come_to_rest().await?;
    let figures = json!({ "seconds": began.elapsed().as_secs_f64() });
    phase::ended("change", figures).await;

    phase::leave(crew).await
}
