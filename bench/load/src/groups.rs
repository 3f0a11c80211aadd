//! Many groups of one member each, over connections that they share.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tokio::time::Instant;

use crate::arguments::Groups;
use crate::board::{Board, Held, Place};
use crate::call::{Failure, Link};
use crate::commits::{Author, commit};
use crate::crew::Crew;
use crate::phase;
use crate::target::Target;

/// Commits that are asked for at once.
const COMMITS_IN_FLIGHT_MAX: usize = 100;

pub(crate) async fn run(target: &Target, options: &Groups) -> Result<(), Failure> {
    let groups = options.groups as usize;
    let topic = target.make_topic(&[]).await?;
    let links = target.links(usize::from(options.connections)).await?;
    if let Some(link) = links.first() {
        target.find_coordinator(link).await?;
    }
    phase::ended("prepare", json!({ "connections": links.len() })).await;

    let board = Board::new(groups, 1, topic.partitions);
    let counts = &target.counts;
    let mut crew = Crew::new(options.protocol, topic.clone(), counts.clone(), board);
    let began = Instant::now();
    for (group, link) in (0..groups).zip(links.iter().cycle()) {
        let place = Place { group, member: 0 };
        crew.add(Arc::clone(link), name(target, group), place);
    }
    crew.come_to_rest().await?;
    let figures = json!({ "seconds": began.elapsed().as_secs_f64(), "again": counts.again() });
    phase::ended("join", figures).await;

    let began = Instant::now();
    let held: Vec<(Place, Held)> = {
        let board = crew.shared().board();
        board
            .held()
            .map(|(place, held)| (place, held.clone()))
            .collect()
    };
    let committing = held.iter().zip(links.iter().cycle());
    let committing = committing.map(|((place, held), link)| {
        let link: &Link = link;
        let topic = &topic;
        async move {
            let author = Author {
                group: &name(target, place.group),
                member_id: &held.member_id,
                epoch: held.epoch,
            };
            commit(link, &author, topic, 0).await
        }
    });
    let committed = stream::iter(committing).buffer_unordered(COMMITS_IN_FLIGHT_MAX);
    committed.try_collect::<()>().await?;
    let figures = json!({ "seconds": began.elapsed().as_secs_f64(), "commits": held.len() });
    phase::ended("commit", figures).await;

    phase::hold(&mut crew, Duration::from_secs(options.hold)).await?;

    phase::leave(crew).await
}

fn name(target: &Target, group: usize) -> String {
    format!("{}-{group}", target.name)
}
