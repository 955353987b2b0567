//! Which pods go first.

use std::sync::Arc;

use super::{now, pod, read};
use crate::replica_set::ranking::worst;

#[test]
fn ranking() {
    for case in read("ranking") {
        let (expected, lines) = case.split_last().unwrap();
        let pods: Vec<_> = lines.iter().map(|l| Arc::new(pod(l))).collect();
        let mut words = expected.split(' ').skip(1);
        let count = words.next().unwrap().parse().unwrap();
        let chosen = worst(now(), &pods, count);
        let names: Vec<_> = chosen.iter().map(|p| p.metadata.name.as_deref().unwrap()).collect();
        assert_eq!(names, words.collect::<Vec<_>>(), "{case:#?}");
    }
}
