//! Memory, CPU, processes, devices.

use pontoon_container::{ResourceLimits, SandboxSpec};

use super::fixture::{Fixture, exec};

const MIB: u64 = 1 << 20;

pub(crate) async fn memory_limit_ends_it() {
    let mut fixture = Fixture::new();
    fixture.runtime.check_cgroups().unwrap();
    let sandbox = fixture.sandbox("s").await;
    fixture.runtime.check_cgroups().unwrap();
    let mut spec = fixture.container("c", &["eat", "200000000"]);
    spec.limits.memory_bytes = Some(48 * MIB);
    let exit = fixture.run(&sandbox, spec).await;
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, Some(9), true));
    // A neighbour in the same sandbox is not blamed, and within the limit nothing happens.
    let mut spec = fixture.container("d", &["eat", "20000000"]);
    spec.limits.memory_bytes = Some(48 * MIB);
    let exit = fixture.run(&sandbox, spec).await;
    assert_eq!((exit.code, exit.oom_killed), (0, false));
    // The sandbox's own limit counts, too.
    let limits = ResourceLimits { memory_bytes: Some(48 * MIB), ..ResourceLimits::default() };
    let tight = SandboxSpec { id: "t".into(), cgroup: limits, ..SandboxSpec::default() };
    let tight = fixture.sandbox_of(tight).await;
    let exit = fixture.run(&tight, fixture.container("e", &["eat", "200000000"])).await;
    assert_eq!((exit.code, exit.oom_killed), (137, true));
    fixture.finish(vec![sandbox, tight]).await;
}

pub(crate) async fn pids_and_cpu() {
    let mut fixture = Fixture::new();
    let sandbox = fixture.sandbox("s").await;
    let mut spec = fixture.container("c", &["spawn"]);
    spec.limits = ResourceLimits {
        pids: Some(20),
        cpu_shares: Some(512),
        cpu_quota_us: Some(50_000),
        cpu_period_us: Some(100_000),
        memory_bytes: None,
    };
    let exit = fixture.run(&sandbox, spec).await;
    let said = fixture.said("c");
    assert_eq!(exit.code, 0, "{said}");
    assert!(said.contains("Resource temporarily unavailable"), "{said}");
    let dirs = fixture.cgroup_dirs();
    let read = |name: &str| {
        dirs.iter().find_map(|dir| std::fs::read_to_string(dir.join("s/c").join(name)).ok())
    };
    if let Some(quota) = read("cpu.cfs_quota_us") {
        assert_eq!((quota.trim(), read("cpu.shares").unwrap().trim()), ("50000", "512"));
    } else {
        assert_eq!(read("cpu.max").unwrap().trim(), "50000 100000");
    }
    fixture.finish(vec![sandbox]).await;
}

pub(crate) async fn stats_are_counted() {
    let fixture = Fixture::new();
    let sandbox = fixture.sandbox("s").await;
    let mut spec = fixture.container("c", &["burn"]);
    spec.limits.memory_bytes = Some(64 * MIB);
    fixture.start(&sandbox, spec).await;
    while !fixture.said("c").contains("burnt") {
        tokio::task::yield_now().await;
    }
    let stats = sandbox.stats("c").await.unwrap();
    assert!(stats.cpu_usage_ns >= 30_000_000, "{stats:?}");
    assert!(stats.memory_usage_bytes > 0 && stats.memory_usage_bytes < 64 * MIB, "{stats:?}");
    assert!(stats.memory_working_set_bytes <= stats.memory_usage_bytes);
    assert_eq!((stats.memory_limit_bytes, stats.pids, stats.oom_kills), (64 * MIB, 1, 0));
    // It finds its own limit where programs look for it.
    let seen = [
        exec(&sandbox, "c", &["cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]).await.1,
        exec(&sandbox, "c", &["cat", "/sys/fs/cgroup/memory.max"]).await.1,
    ];
    assert!(seen.contains(&format!("{}\n", 64 * MIB)), "{seen:?}");
    fixture.finish(vec![sandbox]).await;
}

pub(crate) async fn devices_are_refused() {
    let fixture = Fixture::new();
    let sandbox = fixture.sandbox("s").await;
    let mut spec = fixture.container("c", &["sleep"]);
    fixture.start(&sandbox, spec.clone()).await;
    // /dev/kmsg may be made, not opened; /dev/zero may be both.
    let said = exec(&sandbox, "c", &["node", "1", "11"]).await.1;
    assert!(said.starts_with("made=true opened=Err"), "{said}");
    let said = exec(&sandbox, "c", &["open", "/dev/urandom"]).await.1;
    assert_eq!(said, "opened\n");
    spec.id = "p".into();
    spec.security.privileged = true;
    fixture.start(&sandbox, spec).await;
    let said = exec(&sandbox, "p", &["node", "1", "11"]).await.1;
    assert_eq!(said, "made=true opened=Ok(())\n");
    fixture.finish(vec![sandbox]).await;
}
