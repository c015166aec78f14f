//! What the broker spends: processor time and memory of a process and its children.
//!
//! Refuses to know which broker it is. Time is that of the process clock of Linux: nanoseconds, over all threads, those
//! that have ended too (a collector of garbage is one), in user and system mode.

use crate::Outcome;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use std::fs;

pub struct Broker {
    processes: Vec<u32>,
}

impl Broker {
    pub fn new(pid: u32) -> Outcome<Broker> {
        let mut processes = vec![pid];
        let mut next = 0;
        while let Some(&parent) = processes.get(next) {
            for task in fs::read_dir(format!("/proc/{parent}/task"))? {
                let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
                for child in children.split_whitespace() {
                    processes.push(child.parse()?);
                }
            }
            next += 1;
        }
        Ok(Broker { processes })
    }

    /// User and system time, microseconds.
    pub fn cpu(&self) -> Outcome<f64> {
        let mut total = 0.0;
        for &pid in &self.processes {
            let spent = clock_gettime(ClockId::pid_cpu_clock_id(Pid::from_raw(i32::try_from(pid)?))?)?;
            total += spent.tv_sec() as f64 * 1e6 + spent.tv_nsec() as f64 / 1e3;
        }
        Ok(total)
    }

    /// Resident memory, bytes.
    pub fn rss(&self) -> Outcome<f64> {
        let mut total = 0.0;
        for pid in &self.processes {
            let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = text.lines().find(|l| l.starts_with("VmRSS:")).ok_or("no VmRSS")?;
            total += line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse::<f64>()? * 1024.0;
        }
        Ok(total)
    }
}
