//! A container's shim is the program's own file, executed again.

/// Becomes a shim and never returns, when this process was started as one. The program's `main` calls
/// this before any thread is started.
pub fn run_if_shim() {
    pontoon_container::shim::run_if_shim();
}
