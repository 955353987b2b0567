//! Names and requests: which service answers where (`tables`), and what its names resolve to (`dns`).
//! Both are computed from the objects alone, so that every node that sees the same objects agrees.

pub mod dns;
pub mod tables;
