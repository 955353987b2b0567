//! Tests of objects on a real store of one member.
