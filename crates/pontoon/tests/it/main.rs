//! All tests that look at the whole: the house's rules, and clusters of real processes on local machines.

mod cluster;
mod house;
mod world;
