//! The checker on small histories: what is right passes, what is wrong does not.

use super::*;

const SECOND: u64 = 1_000_000_000;

/// A history from rows of (client, asked, answered, call, answer); no answer at time 0.
fn history(rows: Vec<(u64, u64, u64, Call, Option<Answer>)>) -> History {
    let time = |seq: u64| Time { seq, ns: seq * SECOND };
    let operations = rows.into_iter().map(|(client, asked, answered, call, answer)| Operation {
        client,
        asked: time(asked),
        call,
        fate: answer.map_or(Fate::Unknown, |answer| Fate::Answered(time(answered), answer)),
    });
    History { operations: operations.collect(), expiry: None }
}

fn put(key: &str, value: u64) -> Call {
    Call::Txn(vec![], vec![Op::Put(key.to_owned(), value, 0)], vec![])
}

fn leased(key: &str, value: u64, lease: i64) -> Call {
    Call::Txn(vec![], vec![Op::Put(key.to_owned(), value, lease)], vec![])
}

fn get(key: &str) -> Call {
    Call::Txn(vec![], vec![Op::Get(key.to_owned())], vec![])
}

fn kv(value: u64, modified: u64, version: u64) -> Kv {
    Kv { value, modified, created: modified + 1 - version, version, lease: 0 }
}

fn answer(revision: u64, kv: Option<Kv>) -> Option<Answer> {
    Some(Answer::Txn(revision, true, vec![Effect::Kv(kv)]))
}

#[track_caller]
fn good(rows: Vec<(u64, u64, u64, Call, Option<Answer>)>) {
    check(&history(rows), &[]).expect("nothing is wrong with it");
}

#[track_caller]
fn bad(rows: Vec<(u64, u64, u64, Call, Option<Answer>)>) {
    check(&history(rows), &[]).expect_err("something is wrong with it");
}

#[test]
fn a_read_sees_what_was_written_before() {
    good(vec![
        (1, 1, 2, put("a", 7), answer(2, None)),
        (2, 3, 4, get("a"), answer(2, Some(kv(7, 2, 1)))),
    ]);
    bad(vec![(1, 1, 2, put("a", 7), answer(2, None)), (2, 3, 4, get("a"), answer(1, None))]);
    // At the same time, both are right.
    good(vec![(1, 1, 3, put("a", 7), answer(2, None)), (2, 2, 4, get("a"), answer(1, None))]);
}

#[test]
fn what_nobody_answered_may_happen_later_or_never() {
    let lost = || (1, 1, 0, put("a", 7), None);
    good(vec![
        lost(),
        (2, 3, 4, get("a"), answer(1, None)),
        (2, 5, 6, get("a"), answer(2, Some(kv(7, 2, 1)))),
    ]);
    good(vec![lost(), (2, 3, 4, get("a"), answer(1, None))]);
    // But not be undone.
    bad(vec![
        lost(),
        (2, 3, 4, get("a"), answer(2, Some(kv(7, 2, 1)))),
        (2, 5, 6, get("a"), answer(2, None)),
    ]);
}

#[test]
fn a_write_that_is_lost_is_seen() {
    bad(vec![
        (1, 1, 2, put("a", 7), answer(2, None)),
        (1, 3, 4, put("a", 8), answer(3, Some(kv(7, 2, 1)))),
        (2, 5, 6, get("a"), answer(4, Some(kv(7, 2, 1)))),
    ]);
}

#[test]
fn revisions_are_given_once_and_grow() {
    bad(vec![(1, 1, 2, put("a", 7), answer(2, None)), (1, 3, 4, put("b", 8), answer(2, None))]);
    bad(vec![(1, 1, 2, put("a", 7), answer(3, None)), (1, 3, 4, put("b", 8), answer(2, None))]);
}

#[test]
fn of_two_swaps_from_one_revision_one_holds() {
    let swap = |value: u64| {
        let compare = vec![Compare::Modified("a".to_owned(), 2)];
        Call::Txn(compare, vec![Op::Put("a".to_owned(), value, 0)], vec![Op::Get("a".to_owned())])
    };
    let first = || (1, 1, 2, put("a", 7), answer(2, None));
    let held =
        |revision: u64| Some(Answer::Txn(revision, true, vec![Effect::Kv(Some(kv(7, 2, 1)))]));
    let failed = Some(Answer::Txn(3, false, vec![Effect::Kv(Some(kv(8, 3, 2)))]));
    good(vec![first(), (1, 3, 5, swap(8), held(3)), (2, 4, 6, swap(9), failed)]);
    bad(vec![first(), (1, 3, 5, swap(8), held(3)), (2, 4, 6, swap(9), held(4))]);
}

#[test]
fn keys_written_together_are_seen_together() {
    let both = Call::Txn(
        vec![],
        vec![Op::Put("a".to_owned(), 1, 0), Op::Put("b".to_owned(), 2, 0)],
        vec![],
    );
    let wrote = Some(Answer::Txn(2, true, vec![Effect::Kv(None), Effect::Kv(None)]));
    let read = || Call::Txn(vec![], vec![Op::Get("a".to_owned()), Op::Get("b".to_owned())], vec![]);
    let half = Some(Answer::Txn(2, true, vec![Effect::Kv(Some(kv(1, 2, 1))), Effect::Kv(None)]));
    bad(vec![(1, 1, 4, both, wrote), (2, 2, 3, read(), half)]);
}

#[test]
fn a_lease_ends_no_sooner_than_it_was_told() {
    let lease = |at: u64| {
        vec![
            (1, 1, 2, Call::Grant(5, 10), Some(Answer::Done)),
            (1, 3, 4, leased("a", 7, 5), answer(2, None)),
            (2, at, at + 1, get("a"), answer(3, None)),
        ]
    };
    good(lease(11));
    bad(lease(8));
    let mut kept = lease(12);
    kept.push((1, 5, 6, Call::KeepAlive(5), Some(Answer::Done)));
    bad(kept);
}

#[test]
fn a_lease_that_was_revoked_takes_its_keys_along() {
    let mut rows = vec![
        (1, 1, 2, Call::Grant(5, 100), Some(Answer::Done)),
        (1, 3, 4, leased("a", 7, 5), answer(2, None)),
        (1, 5, 6, Call::Revoke(5), Some(Answer::Done)),
        (2, 7, 8, get("a"), answer(3, None)),
    ];
    good(rows.clone());
    let still = Kv { lease: 5, ..kv(7, 2, 1) };
    rows[3] = (2, 7, 8, get("a"), answer(3, Some(still)));
    bad(rows);
}

#[test]
fn a_stale_read_may_be_behind_but_not_wrong() {
    let stale = |header: u64, kv: Option<Kv>| {
        (
            2,
            5,
            6,
            Call::Stale(vec!["a".to_owned()], 0),
            Some(Answer::Stale(header, vec![kv], "m1".to_owned())),
        )
    };
    let writes = || {
        vec![
            (1, 1, 2, put("a", 7), answer(2, None)),
            (1, 3, 4, put("a", 8), answer(3, Some(kv(7, 2, 1)))),
        ]
    };
    let with = |row| writes().into_iter().chain([row]).collect::<Vec<_>>();
    good(with(stale(2, Some(kv(7, 2, 1)))));
    bad(with(stale(3, Some(kv(7, 2, 1)))));
    bad(vec![
        (
            2,
            1,
            2,
            Call::Stale(vec!["a".to_owned()], 0),
            Some(Answer::Stale(2, vec![Some(kv(7, 2, 1))], "m1".to_owned())),
        ),
        (1, 3, 4, put("a", 7), answer(2, None)),
    ]);
}

#[test]
fn a_watcher_sees_each_change_once_and_in_order() {
    let history = history(vec![
        (1, 1, 2, put("a", 7), answer(2, None)),
        (1, 3, 4, put("b", 8), answer(3, None)),
    ]);
    let event = |revision, key: &str, value| WatchEvent {
        revision,
        key: key.to_owned(),
        value: Some(value),
    };
    let watch =
        |events: Vec<WatchEvent>| WatchLog { from: 2, events, upto: 3, ..WatchLog::default() };
    let (a, b) = (event(2, "a", 7), event(3, "b", 8));
    let check = |events| check_watch(&history, &watch(events));
    check(vec![a.clone(), b.clone()]).expect("it saw all");
    check(vec![b.clone()]).expect_err("it missed one");
    check(vec![a.clone(), a.clone(), b.clone()]).expect_err("it saw one twice");
    check(vec![b.clone(), a.clone()]).expect_err("out of order");
    check(vec![a.clone(), event(3, "b", 9)]).expect_err("another value");
    let told = WatchLog { compacted: vec![(1, 3)], ..watch(vec![b]) };
    check_watch(&history, &told).expect("it was told that the first is gone");
}

#[test]
fn a_watcher_of_some_keys_is_told_of_these_alone() {
    let history = history(vec![
        (1, 1, 2, put("x/a", 7), answer(2, None)),
        (1, 3, 4, put("y/b", 8), answer(3, None)),
        (1, 5, 0, put("x/c", 9), None),
        (1, 7, 8, put("x/d", 10), answer(6, None)),
    ]);
    let event = |revision, key: &str, value| WatchEvent {
        revision,
        key: key.to_owned(),
        value: Some(value),
    };
    let (a, d) = (event(2, "x/a", 7), event(6, "x/d", 10));
    let watch = |events: Vec<WatchEvent>| WatchLog {
        prefix: "x/".to_owned(),
        among_others: true,
        from: 2,
        events,
        upto: 6,
        ..WatchLog::default()
    };
    let check = |events| check_watch(&history, &watch(events));
    check(vec![a.clone(), d.clone()]).expect("it saw all, and the other write never was");
    check(vec![a.clone(), event(4, "x/c", 9), d.clone()]).expect("it was, at a revision between");
    check(vec![a.clone()]).expect_err("it missed one");
    check(vec![a.clone(), event(3, "x/b", 8), d.clone()]).expect_err("nobody wrote this there");
    let twice = vec![a.clone(), event(4, "x/c", 9), event(5, "x/c", 9), d.clone()];
    check(twice).expect_err("one write was done twice");
    let full = watch(vec![a.clone(), event(4, "x/c", 9), d.clone()]);
    let gone = WatchEvent { value: None, ..event(5, "x/a", 0) };
    let more = watch(vec![a.clone(), event(4, "x/c", 9), gone, d.clone()]);
    check_agreement(&[full.clone(), full.clone()]).expect("they were told the same");
    check_agreement(&[full.clone(), more.clone()]).expect_err("one was told more");
    let cut = WatchLog { compacted: vec![(3, 6)], ..watch(vec![a, d]) };
    check_agreement(&[full, cut.clone()]).expect("it was told what it did not see");
    check_agreement(&[more, cut]).expect("and so here");
}
