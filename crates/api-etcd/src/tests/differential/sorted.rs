//! Every order, by every target, with limits and bounds.

use super::Both;
use crate::proto::RangeRequest;

/// Keys whose versions and values tie: few enough for etcd to leave ties in the order of the keys.
const WRITES: [(&str, &str); 14] = [
    ("c", "2"),
    ("a", "3"),
    ("b", "1"),
    ("e", "1"),
    ("a", "1"),
    ("d", "2"),
    ("g", ""),
    ("f", "3"),
    ("c", "1"),
    ("c", "4"),
    ("h", "2"),
    ("d", "2"),
    ("i", "0"),
    ("b", "5"),
];

fn everything() -> RangeRequest {
    let all = bytes::Bytes::from_static(b"\0");
    RangeRequest { key: all.clone(), range_end: all, ..RangeRequest::default() }
}

/// Bounds on revisions, those that make no sense among them.
fn bounds() -> Vec<RangeRequest> {
    vec![
        everything(),
        RangeRequest { min_mod_revision: 8, ..everything() },
        RangeRequest { max_mod_revision: 9, ..everything() },
        RangeRequest { min_mod_revision: 6, max_mod_revision: 13, ..everything() },
        RangeRequest { min_create_revision: 4, ..everything() },
        RangeRequest { max_create_revision: 7, ..everything() },
        RangeRequest { max_mod_revision: -1, ..everything() },
        RangeRequest { min_mod_revision: -1, min_create_revision: 99, ..everything() },
        RangeRequest { revision: 9, ..everything() },
        RangeRequest { revision: -4, ..everything() },
        RangeRequest { key: "b".into(), range_end: "g".into(), ..RangeRequest::default() },
        RangeRequest { key: "g".into(), range_end: "b".into(), ..RangeRequest::default() },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_sorted_and_cut_the_same() {
    let Some(both) = Both::begin().await else { return };
    for (key, value) in WRITES {
        both.write(key, value).await;
    }
    for bounded in bounds() {
        for (sort_order, sort_target) in (0..3).flat_map(|o| (0..5).map(move |t| (o, t))) {
            for limit in [0, 1, 4, -1] {
                for (keys_only, count_only) in [(false, false), (true, false), (false, true)] {
                    let sorted = RangeRequest { sort_order, sort_target, ..bounded.clone() };
                    let cut = RangeRequest { limit, keys_only, count_only, ..sorted };
                    both.range(&cut).await.unwrap();
                }
            }
        }
    }
}
