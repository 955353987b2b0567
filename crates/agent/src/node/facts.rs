//! What the machine is and has, read from the kernel.

use std::fs;
use std::path::Path;

/// What a machine is and has at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Facts {
    pub cpus: u64,
    pub memory_bytes: u64,
    pub memory_available_bytes: u64,
    pub disk_bytes: u64,
    pub disk_available_bytes: u64,
    pub processes: u64,
    pub most_processes: u64,
    pub machine_id: String,
    pub boot_id: String,
    pub system_uuid: String,
    pub kernel: String,
    pub os_image: String,
}

impl Facts {
    /// Reads them; what cannot be read is zero or empty. The disk is that of `data_dir`.
    pub(crate) fn read(data_dir: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let memory = text("/proc/meminfo");
        let disk = rustix::fs::statvfs(data_dir).ok();
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let machine_id = text("/etc/machine-id");
        Self {
            cpus: u64::try_from(cpus).unwrap_or(1),
            memory_bytes: memory_field(&memory, "MemTotal"),
            memory_available_bytes: memory_field(&memory, "MemAvailable"),
            disk_bytes: disk.as_ref().map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize)),
            disk_available_bytes: disk
                .as_ref()
                .map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize)),
            processes: processes(&text("/proc/loadavg")),
            most_processes: text("/proc/sys/kernel/pid_max").parse().unwrap_or(0),
            system_uuid: Some(text("/sys/class/dmi/id/product_uuid"))
                .filter(|uuid| !uuid.is_empty())
                .unwrap_or_else(|| machine_id.clone()),
            machine_id,
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            kernel: text("/proc/sys/kernel/osrelease"),
            os_image: pretty_name(&text("/etc/os-release")),
        }
    }
}

/// A line of `/proc/meminfo` in bytes.
fn memory_field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}

/// The number of all threads, from the fourth word of `/proc/loadavg`.
fn processes(text: &str) -> u64 {
    let word = text.split_whitespace().nth(3).and_then(|word| word.split_once('/'));
    word.and_then(|(_, all)| all.parse().ok()).unwrap_or(0)
}

fn pretty_name(text: &str) -> String {
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_something() {
        let facts = Facts::read(Path::new("/"));
        assert!(facts.cpus > 0 && facts.memory_bytes > 0 && facts.disk_bytes > 0);
        assert!(facts.memory_available_bytes <= facts.memory_bytes);
        assert!(!facts.kernel.is_empty() && facts.processes > 0);
    }

    #[test]
    fn the_kernels_texts() {
        let memory = "MemTotal:       16307932 kB\nMemFree:  1 kB\nMemAvailable:   12000000 kB";
        assert_eq!(memory_field(memory, "MemTotal"), 16_307_932 * 1024);
        assert_eq!(memory_field(memory, "Nonsense"), 0);
        assert_eq!(processes("0.10 0.20 0.30 2/345 6789"), 345);
        assert_eq!(
            pretty_name("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\""),
            "Debian GNU/Linux 12"
        );
        assert_eq!(pretty_name(""), "Linux");
    }
}
