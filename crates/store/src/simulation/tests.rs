//! Seeds are run, and what they show is held against what the store promises.

use super::run::{Outcome, run};

fn seeds() -> Vec<u64> {
    if let Ok(seed) = std::env::var("PONTOON_SIM_SEED") {
        return vec![seed.parse().expect("PONTOON_SIM_SEED is a number")];
    }
    let count =
        std::env::var("PONTOON_SIM_SEEDS").map_or(24, |count| count.parse().expect("a number"));
    (0..count).collect()
}

fn show(seed: u64, outcome: &Outcome) {
    println!(
        "seed {seed}: {} answered, {} unknown, {} refused, {} watched, {:?} virtual, {:?}, {:?}",
        outcome.answered,
        outcome.unknown,
        outcome.refused,
        outcome.watched,
        outcome.virtual_time,
        outcome.faults,
        outcome.verdict
    );
}

#[test]
fn simulation() {
    let mut bad = Vec::new();
    for seed in seeds() {
        let outcome = run(seed, None);
        show(seed, &outcome);
        if let Err(error) = outcome.verdict {
            bad.push(format!("PONTOON_SIM_SEED={seed} cargo test -p pontoon-store simulation -- --nocapture # {error}"));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn a_seed_replays() {
    for seed in [3, 4] {
        let (one, other) = (run(seed, None), run(seed, None));
        let pairs = one.trace.iter().zip(&other.trace);
        for (at, (one, other)) in pairs.enumerate() {
            assert_eq!(one, other, "seed {seed}: line {at} of the trace");
        }
        assert_eq!(one.trace.len(), other.trace.len(), "seed {seed}");
    }
}
