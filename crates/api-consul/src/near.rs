//! How far nodes are from each other: Consul's network coordinates, and the order that `?near=` asks for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How many dimensions Consul's coordinates have.
pub const DIMENSIONS: usize = 8;
/// The error of a node that has measured nothing yet.
const UNKNOWN_ERROR: f64 = 1.5;
/// The least height, in seconds: even the nearest node is an access link away.
const LEAST_HEIGHT: f64 = 10e-6;

/// Where a node is in the network, in seconds of round-trip time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Coordinate {
    pub vec: Vec<f64>,
    /// How little the node trusts its own place; it has no part in the distance.
    #[serde(default)]
    pub error: f64,
    /// What measured times are longer (or shorter) than the model says.
    #[serde(default)]
    pub adjustment: f64,
    /// The node's own access link, which every path from it crosses.
    #[serde(default)]
    pub height: f64,
}

impl Default for Coordinate {
    /// Where a node starts: at the origin.
    fn default() -> Coordinate {
        Coordinate {
            vec: vec![0.0; DIMENSIONS],
            error: UNKNOWN_ERROR,
            adjustment: 0.0,
            height: LEAST_HEIGHT,
        }
    }
}

impl Coordinate {
    /// True if all its numbers are finite and it has Consul's dimensions: others must not be stored.
    pub fn is_valid(&self) -> bool {
        let numbers = [self.error, self.adjustment, self.height];
        self.vec.len() == DIMENSIONS
            && self.vec.iter().chain(&numbers).all(|number| number.is_finite())
    }

    /// The estimated round-trip time to `other`; none between coordinates that cannot be compared.
    pub fn round_trip(&self, other: &Coordinate) -> Option<Duration> {
        if self.vec.len() != other.vec.len() {
            return None;
        }
        let squares = self.vec.iter().zip(&other.vec).map(|(a, b)| (a - b) * (a - b));
        let seconds = squares.sum::<f64>().sqrt() + self.height + other.height;
        let adjusted = seconds + self.adjustment + other.adjustment;
        // Adjustments are only averages: they must not make a path of no length.
        let seconds = if adjusted > 0.0 { adjusted } else { seconds };
        Duration::try_from_secs_f64(seconds).ok()
    }
}

/// Sorts by the estimated round-trip time from `origin`. Those at the same distance stay in their order, and
/// those without a coordinate come last; without an origin nothing moves.
pub fn sort_by_distance<'c, T>(
    items: &mut [T],
    origin: Option<&Coordinate>,
    coordinate: impl Fn(&T) -> Option<&'c Coordinate>,
) {
    let Some(origin) = origin else { return };
    items.sort_by_cached_key(|item| {
        let distance = coordinate(item).and_then(|there| origin.round_trip(there));
        distance.unwrap_or(Duration::MAX)
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(first: f64, height: f64, adjustment: f64) -> Coordinate {
        let mut coordinate = Coordinate { height, adjustment, ..Coordinate::default() };
        coordinate.vec[0] = first;
        coordinate
    }

    #[test]
    fn the_distance_is_the_vector_with_heights_and_adjustments() {
        let cases = [
            (at(0.0, 0.0, 0.0), at(0.0, 0.0, 0.0), 0),
            (at(0.0, 0.0, 0.0), at(0.01, 0.0, 0.0), 10_000_000),
            (at(0.003, 0.001, 0.0), at(-0.001, 0.002, 0.0), 7_000_000),
            (at(0.0, 0.001, 0.0005), at(0.0, 0.001, 0.0005), 3_000_000),
            // an adjustment that would make it negative is left out
            (at(0.0, 0.001, -0.01), at(0.0, 0.001, 0.0), 2_000_000),
            (Coordinate::default(), Coordinate::default(), 20_000),
        ];
        for (a, b, nanos) in cases {
            let found = a.round_trip(&b).map(|span| span.as_nanos().abs_diff(nanos) <= 1);
            assert_eq!(found, Some(true), "{a:?} {b:?}");
        }
    }

    #[test]
    fn what_cannot_be_compared_has_no_distance() {
        let short = Coordinate { vec: vec![0.0], ..Coordinate::default() };
        let endless = at(f64::INFINITY, 0.0, 0.0);
        assert_eq!(short.round_trip(&Coordinate::default()), None);
        assert_eq!(endless.round_trip(&Coordinate::default()), None);
        assert!(!short.is_valid() && !endless.is_valid() && !at(0.0, f64::NAN, 0.0).is_valid());
        assert!(Coordinate::default().is_valid());
    }

    #[test]
    fn json_is_consuls() {
        let json = r#"{"Vec":[0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0],"Error":1.5,"Adjustment":0.0,"Height":0.00001}"#;
        assert_eq!(serde_json::from_str::<Coordinate>(json).ok(), Some(Coordinate::default()));
        let written = serde_json::to_value(Coordinate::default()).expect("JSON");
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(json).expect("JSON"));
    }

    #[test]
    fn the_nearest_come_first_and_the_unknown_last() {
        let (far, near) = (at(1.0, 0.0, 0.0), at(0.1, 0.0, 0.0));
        let (far, near) = (Some(&far), Some(&near));
        let mut nodes =
            [("a", None), ("b", far), ("c", near), ("d", None), ("e", near), ("f", far)];
        let names =
            |nodes: &[(&str, Option<&Coordinate>)]| nodes.iter().map(|n| n.0).collect::<String>();
        sort_by_distance(&mut nodes, None, |node| node.1);
        assert_eq!(names(&nodes), "abcdef");
        sort_by_distance(&mut nodes, Some(&at(0.0, 0.0, 0.0)), |node| node.1);
        assert_eq!(names(&nodes), "cebfad");
    }

    fn coordinates() -> impl Strategy<Value = Coordinate> {
        let number = || -1.0..1.0f64;
        (prop::collection::vec(number(), DIMENSIONS), number(), number(), 0.0..0.1f64).prop_map(
            |(vec, error, adjustment, height)| Coordinate { vec, error, adjustment, height },
        )
    }

    proptest! {
        #[test]
        fn it_is_as_far_there_as_back(a in coordinates(), b in coordinates()) {
            prop_assert_eq!(a.round_trip(&b), b.round_trip(&a));
            prop_assert!(a.round_trip(&b).is_some());
        }

        #[test]
        fn sorting_any_numbers_never_panics(
            firsts in prop::collection::vec(any::<f64>(), 0..8),
            origin in any::<f64>(),
        ) {
            let places: Vec<_> = firsts.into_iter().map(|first| at(first, 0.0, 0.0)).collect();
            let mut items: Vec<&Coordinate> = places.iter().collect();
            sort_by_distance(&mut items, Some(&at(origin, 0.0, 0.0)), |item| Some(*item));
        }
    }
}
