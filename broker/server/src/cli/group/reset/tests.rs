use clap::Parser;
use proptest::prelude::*;

use super::super::tests::place;
use super::*;

fn facts(current: Option<i64>, at_time: Option<i64>) -> Facts {
    Facts {
        place: place("a", 0),
        current,
        log: (10, 20),
        at_time,
    }
}

fn new(goal: Goal, current: Option<i64>, at_time: Option<i64>) -> (i64, bool) {
    let steps = plan(goal, &[facts(current, at_time)]).expect("a plan");
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0].current, current);
    (steps[0].new, steps[0].note.is_some())
}

#[test]
fn each_goal_leads_where_it_says() {
    assert_eq!(new(Goal::Earliest, Some(15), None), (10, false));
    assert_eq!(new(Goal::Latest, None, None), (20, false));
    assert_eq!(new(Goal::Offset(12), None, None), (12, false));
    assert_eq!(new(Goal::Shift(3), Some(15), None), (18, false));
    assert_eq!(new(Goal::Shift(-3), Some(15), None), (12, false));
    assert_eq!(new(Goal::Time(Timestamp(5)), None, Some(11)), (11, false));
}

#[test]
fn nothing_leads_out_of_the_log_and_that_is_said() {
    assert_eq!(new(Goal::Offset(0), None, None), (10, true));
    assert_eq!(new(Goal::Offset(i64::MAX), None, None), (20, true));
    assert_eq!(new(Goal::Shift(i64::MIN), Some(15), None), (10, true));
    assert_eq!(new(Goal::Shift(i64::MAX), Some(15), None), (20, true));
    assert_eq!(new(Goal::Shift(1), Some(20), None), (20, true));
    // No record is that new.
    assert_eq!(new(Goal::Time(Timestamp(5)), Some(15), None), (20, true));
    // It was deleted between the question where it is and the one where the log begins.
    assert_eq!(new(Goal::Time(Timestamp(5)), None, Some(9)), (10, true));
}

#[test]
fn what_was_never_committed_cannot_be_shifted() {
    let error = plan(Goal::Shift(1), &[facts(None, None)]).unwrap_err();
    assert_eq!(error, "cannot shift a-0: the group has no offset there");
}

proptest! {
    #[test]
    fn plans_stay_within_their_logs(
        start in any::<i64>(),
        length in 0..i64::MAX,
        current in any::<Option<i64>>(),
        at_time in any::<Option<i64>>(),
        number in any::<i64>(),
        which in 0..5,
    ) {
        let log = (start, start.saturating_add(length));
        let goal = match which {
            0 => Goal::Offset(number),
            1 => Goal::Earliest,
            2 => Goal::Latest,
            3 => Goal::Time(Timestamp(number)),
            _ => Goal::Shift(number),
        };
        let facts = Facts { place: place("a", 0), current, log, at_time };
        match plan(goal, &[facts]) {
            Ok(steps) => prop_assert!((log.0..=log.1).contains(&steps[0].new)),
            Err(_) => prop_assert!(matches!(goal, Goal::Shift(_)) && current.is_none()),
        }
    }
}

#[test]
fn times_are_rfc_3339_or_milliseconds() {
    assert_eq!(time("0"), Ok(Timestamp(0)));
    assert_eq!(time("1700000000123"), Ok(Timestamp(1_700_000_000_123)));
    assert_eq!(time("1970-01-01T00:00:01.5Z"), Ok(Timestamp(1500)));
    assert_eq!(
        time("2026-01-31T12:00:00+02:00"),
        Ok(Timestamp(1_769_853_600_000))
    );
    for bad in [
        "",
        "-1",
        "yesterday",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "1969-12-31T23:59:59Z",
    ] {
        assert!(time(bad).is_err(), "{bad}");
    }
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    reset: Reset,
}

fn parse(arguments: &str) -> Result<Goal, String> {
    let words = arguments.split_whitespace();
    Line::try_parse_from(["reset"].into_iter().chain(words))
        .map(|line| line.reset.to.goal())
        .map_err(|error| error.to_string())
}

#[test]
fn exactly_one_goal_is_given_and_topics_or_all_of_them() {
    assert_eq!(parse("g --topic t --to-earliest"), Ok(Goal::Earliest));
    assert_eq!(parse("g --all-topics --to-latest"), Ok(Goal::Latest));
    assert_eq!(
        parse("g --topic t:0 --topic u --to-offset 7"),
        Ok(Goal::Offset(7))
    );
    assert_eq!(parse("g --topic t --shift-by -7"), Ok(Goal::Shift(-7)));
    assert_eq!(
        parse("g --topic t --to-time 5"),
        Ok(Goal::Time(Timestamp(5)))
    );
    for bad in [
        "g --topic t",
        "g --to-latest",
        "--topic t --to-latest",
        "g --topic t --to-latest --to-earliest",
        "g --topic t --all-topics --to-latest",
        "g --topic t: --to-latest",
        "g --topic t --to-offset -1",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_plan_shows_what_changes() {
    let steps = [
        Step {
            place: place("a", 0),
            current: Some(15),
            new: 10,
            note: Some("before the log: its start"),
        },
        Step {
            place: place("a", 1),
            current: None,
            new: 3,
            note: None,
        },
    ];
    assert_eq!(
        shown("g", &steps, true),
        "group g: 2 offsets would be set\n\
         TOPIC  PARTITION  CURRENT  NEW  CHANGE  NOTE\n\
         a      0          15       10   -5      before the log: its start\n\
         a      1          -        3    -"
    );
    assert!(shown("g", &steps[..1], false).starts_with("group g: 1 offset set\n"));
    let refused = ClientError::Kafka {
        what: "setting offsets of group g".to_owned(),
        code: ErrorCode::UnknownMemberId,
        message: None,
    };
    let line = step_json("g", &steps[0], false, Some(&refused));
    assert_eq!(
        (&line["ok"], &line["code"]),
        (&json!(false), &json!("UNKNOWN_MEMBER_ID"))
    );
}
