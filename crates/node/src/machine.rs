//! What the machine, or the container in it, has.
//!
//! Refuses to know what it is used for.

use std::fs;

/// Where nothing can be read, as on a system without /proc.
const UNKNOWN: u64 = 2 << 30;

/// Bytes of memory: those of the machine, or the limit of the control group if that is lower.
pub fn memory_bytes() -> u64 {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let group = read("/proc/self/cgroup");
    let own = group
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or_default();
    let limits = [
        read(&format!("/sys/fs/cgroup{}/memory.max", own.trim())),
        read("/sys/fs/cgroup/memory.max"),
        read("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    ];
    let limit = limits.iter().filter_map(|text| text.trim().parse().ok()).min();
    let installed = installed(&read("/proc/meminfo"));
    limit.into_iter().chain(installed).min().unwrap_or(UNKNOWN)
}

fn installed(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_counts_in_kib() {
        assert_eq!(installed("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert_eq!(installed("nonsense"), None);
    }

    #[test]
    fn there_is_some() {
        assert!(memory_bytes() > 16 << 20);
    }
}
