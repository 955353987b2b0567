//! Real sandboxes on the real kernel. This binary is three things: the tests, the shim that they start, and the program
//! that runs in the containers, so that nothing else is needed.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test, though not one that clippy knows as such"
)]

mod fixture;
mod isolation;
mod life;
mod limits;
mod payload;
mod streams;

type Test = (&'static str, fn());

/// Runs an async test on its own runtime.
macro_rules! tests {
    ($($module:ident: $($name:ident)*;)*) => {
        &[$($((
            concat!(stringify!($module), "::", stringify!($name)),
            (|| fixture::block_on($module::$name())) as fn(),
        )),*),*]
    };
}

const TESTS: &[Test] = tests! {
    life: starts_and_exits program_that_cannot_run restart_of_the_daemon death_of_the_shim
        what_cannot_be_removed_holds_up_nobody nothing_is_left kill_and_delete ids_and_states exits_are_told;
    streams: output_is_logged log_rotates exec_streams exec_terminal exec_ends_with_its_holder
        container_terminal attached_stdin;
    isolation: namespaces_and_host_name shared_pid_namespace filter_and_capabilities
        filter_without_no_new_privileges unconfined_and_privileged users_and_homes mounts_and_read_only_root
        links_in_the_image masked_paths host_namespaces sysctls;
    limits: memory_limit_ends_it pids_and_cpu stats_are_counted devices_are_refused;
};

fn main() {
    pontoon_container::shim::run_if_shim();
    payload::run_if_payload();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        for (name, _) in TESTS {
            println!("{name}: test");
        }
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let wanted: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let mut failures = Vec::new();
    for (name, test) in TESTS {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let passed = std::panic::catch_unwind(test).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        if !passed {
            failures.push(*name);
        }
    }
    if !failures.is_empty() {
        println!("failed: {}", failures.join(", "));
        std::process::exit(1);
    }
}
