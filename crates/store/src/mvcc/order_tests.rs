//! Ranges in another order than that of their keys, and of some revisions only.

use std::cmp::Reverse;

use super::{Effects, State};
use crate::WriteError;
use crate::command::{Command, Reply};
use crate::kv::KeyValue;
use crate::range::{Order, OrderBy, Range, RangeResponse, Revisions};
use crate::txn::{OpResponse, Put, Txn};

fn put(state: &mut State, key: &str, value: Vec<u8>) {
    let command = Command::Txn(Txn::new().then(Put::new(key.to_owned(), value)));
    state.execute(&command, &mut Effects::default()).expect("written");
}

/// Keys of which some are written again, with values in no order; several tie in everything but the key.
fn state() -> State {
    let mut state = State::default();
    for number in 0..12_u8 {
        put(&mut state, &format!("{number:02}"), vec![number * 7 % 5]);
    }
    for number in [3, 7, 3, 9_u8] {
        put(&mut state, &format!("{number:02}"), vec![1]);
    }
    state
}

fn keys(found: &RangeResponse) -> Vec<&[u8]> {
    found.kvs.iter().map(|kv| &kv.key[..]).collect()
}

#[test]
fn an_order_is_applied_before_the_limit() {
    let state = state();
    let all = state.range(&Range::prefix("")).unwrap();
    let number = |by: OrderBy, kv: &KeyValue| match by {
        OrderBy::Key => kv.key.to_vec(),
        OrderBy::Version => kv.version.to_be_bytes().to_vec(),
        OrderBy::Create => kv.create_revision.to_be_bytes().to_vec(),
        OrderBy::Mod => kv.mod_revision.to_be_bytes().to_vec(),
        OrderBy::Value => kv.value.to_vec(),
    };
    let orders = [OrderBy::Key, OrderBy::Version, OrderBy::Create, OrderBy::Mod, OrderBy::Value];
    for by in orders {
        for descending in [false, true] {
            let mut sorted = all.kvs.clone();
            // What ties stays in the order of its keys.
            match descending {
                true => sorted.sort_by_key(|kv| Reverse(number(by, kv))),
                false => sorted.sort_by_key(|kv| number(by, kv)),
            }
            for limit in [0, 1, 5, 12, 13] {
                let order = Some(Order { by, descending });
                let range = Range { order, limit, ..Range::prefix("") };
                let found = state.range(&range).unwrap();
                let most = if limit == 0 { sorted.len() } else { sorted.len().min(limit as usize) };
                assert_eq!(found.kvs, sorted[..most], "{range:?}");
                assert_eq!((found.count, found.more), (12, most < 12), "{range:?}");
            }
        }
    }
}

#[test]
fn revisions_are_left_out_before_the_limit() {
    let state = state();
    // Twelve keys were made at the revisions 2 to 13; three of them were written again at 14 to 17.
    let created = Revisions { least: 4, most: 9 };
    let found = state.range(&Range { created, limit: 2, ..Range::prefix("") }).unwrap();
    assert_eq!((keys(&found), found.count, found.more), (vec![&b"02"[..], b"03"], 12, true));
    let modified = Revisions { least: 14, ..Revisions::default() };
    let found = state.range(&Range { modified, ..Range::prefix("") }).unwrap();
    assert_eq!((keys(&found), found.more), (vec![&b"03"[..], b"07", b"09"], false));
    let found = state.range(&Range { modified, created, ..Range::prefix("") }).unwrap();
    assert_eq!(keys(&found), [b"03", b"07"]);
    let none = Revisions { least: 0, most: 0 };
    let found = state.range(&Range { modified: none, ..Range::prefix("") }).unwrap();
    assert_eq!((found.kvs.len(), found.count, found.more), (0, 12, false));
}

#[test]
fn what_is_cut_off_takes_no_room_in_a_transaction() {
    let mut state = State::default();
    for number in 0..40 {
        put(&mut state, &format!("{number:02}"), vec![number; 1 << 20]);
    }
    let order = Some(Order { by: OrderBy::Mod, descending: true });
    let newest = |limit| Range { order, limit, ..Range::prefix("") };
    let asks = |range: &Range| {
        let txn = (0..10).fold(Txn::new(), |txn, _| txn.then(range.clone()));
        (txn.clone(), txn.then(Put::new("written", "too")))
    };
    let (read, write) = asks(&newest(1));
    let only_read = state.find_txn(&read).expect("ten keys are little").answer();
    let written = state.execute(&Command::Txn(write), &mut Effects::default());
    let Ok(Reply::Txn(written)) = written else { panic!("{written:?}") };
    for answer in [&only_read.responses[..], &written.responses[..10]].concat() {
        let OpResponse::Range(found) = &answer else { panic!("{answer:?}") };
        assert_eq!((keys(found), found.more), (vec![&b"39"[..]], true));
    }
    let (read, _) = asks(&newest(0));
    assert_eq!(state.find_txn(&read).err(), Some(WriteError::AnswerTooLarge));
}
