use esker_protocol::{LeaderEpoch, Offset, TopicId};
use object_store::path::Path;

use super::*;
use crate::testing::partition;

fn object_name() -> ObjectName {
    ObjectName {
        base: Offset(42),
        end: Offset(1_000_000),
        leader_epoch: LeaderEpoch(7),
        uuid: Uuid([0x1f; 16]),
    }
}

#[test]
fn names_are_as_the_design_has_them() {
    let topic = "abababababababababababababababab";
    let uuid = "1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f";
    let object = object(&partition(), &object_name());
    assert_eq!(
        object.as_ref(),
        format!(
            "clusterclusterclustere/{topic}/3/\
             00000000000000000042-00000000000001000000-0000000007-{uuid}.log.zst"
        )
    );
    let name = ManifestName {
        incarnation: 1,
        leader_epoch: LeaderEpoch(7),
        version: 12,
        uuid: Uuid([0x1f; 16]),
        kind: ManifestKind::Head,
    };
    assert_eq!(
        manifest(&partition(), &name.to_string()).as_ref(),
        format!(
            "clusterclusterclustere/{topic}/3/manifest/\
             00000000000000000001-0000000007-00000000000000000012-{uuid}.head"
        )
    );
    assert_eq!(
        marker("clusterclusterclustere").as_ref(),
        "clusterclusterclustere/cluster.json"
    );
}

#[test]
fn what_is_written_is_read_back_and_nothing_else_is_read() {
    let place = Place {
        cluster_id: "clusterclusterclustere".to_owned(),
        topic_id: TopicId([0xab; 16]),
        partition: 3,
    };
    let path = object(&partition(), &object_name());
    assert_eq!(
        parse(&path),
        Some(Named::Object {
            place: place.clone(),
            name: object_name()
        })
    );
    for kind in [ManifestKind::Head, ManifestKind::Page] {
        let name = ManifestName {
            incarnation: u64::MAX,
            leader_epoch: LeaderEpoch(i32::MAX),
            version: 3,
            uuid: Uuid([0; 16]),
            kind,
        };
        let path = manifest(&partition(), &name.to_string());
        assert_eq!(
            parse(&path),
            Some(Named::Manifest {
                place: place.clone(),
                name
            })
        );
    }
    let good = path.to_string();
    let strange = [
        good.replace("/3/", "/03/"),
        good.replace("/3/", "/-3/"),
        good.replace("abab", "ABAB"),
        good.replace("1f1f", "1F1F"),
        good.replace("00000000000000000042", "0000000000000000042"),
        good.replace("00000000000000000042", "+0000000000000000042"),
        good.replace("00000000000000000042", "00000000000009000042"),
        good.replace("-0000000007-", "-0000000007-0000000007-"),
        good.replace(".zst", ".gz"),
        format!("{good}/more"),
        "a/b".to_owned(),
    ];
    for text in strange {
        assert_eq!(parse(&Path::from(text.as_str())), None, "{text}");
    }
}
