use esker_protocol::{LeaderEpoch, Offset};
use esker_tier::layout::{ObjectName, Uuid};

use super::*;

const ID: TopicId = TopicId([7; 16]);

fn place(partition: i32) -> Place {
    Place {
        cluster_id: "cluster".to_owned(),
        topic_id: ID,
        partition,
    }
}

#[test]
fn topic_ids_are_read_in_both_of_their_forms() {
    assert_eq!(topic_id(&ID.to_string()), Ok(ID));
    assert_eq!(topic_id(&ID.to_hex()), Ok(ID));
    assert!(topic_id("clickstream").is_err());
}

#[test]
fn a_filter_takes_what_it_names() {
    let all = Filter {
        topic_id: None,
        partition: None,
    };
    assert!(all.takes(&place(0)));
    let one = Filter {
        topic_id: Some(ID),
        partition: Some(1),
    };
    assert!(one.takes(&place(1)));
    assert!(!one.takes(&place(2)));
    let other = Filter {
        topic_id: Some(TopicId([8; 16])),
        partition: None,
    };
    assert!(!other.takes(&place(1)));
}

#[test]
fn a_span_goes_from_the_first_object_to_the_last() {
    let name = |base, end| ObjectName {
        base: Offset(base),
        end: Offset(end),
        leader_epoch: LeaderEpoch(0),
        uuid: Uuid([0; 16]),
    };
    let mut contents = Contents::default();
    assert_eq!(span(&contents), None);
    contents.objects.insert(name(5, 9), 1);
    contents.objects.insert(name(9, 12), 1);
    assert_eq!(span(&contents), Some((5, 12)));
}

#[tokio::test]
async fn looking_neither_makes_the_folder_nor_touches_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = |path: String| Store {
        url: format!("file://{path}"),
        overrides: Vec::new(),
    };
    let missing = folder.path().join("missing");
    assert!(store(missing.display().to_string()).open().is_err());
    assert!(!missing.exists());

    // What an upload of a live broker looks like while it is under way.
    let staging = folder.path().join("object#1");
    std::os::unix::fs::symlink("nowhere", &staging).unwrap();
    let bucket = store(folder.path().display().to_string()).open().unwrap();
    let all = Filter {
        topic_id: None,
        partition: None,
    };
    assert!(all.list(&bucket).await.unwrap().partitions.is_empty());
    assert!(staging.symlink_metadata().is_ok());
}
