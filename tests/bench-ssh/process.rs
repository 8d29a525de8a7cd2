//! Processes: those that we start, and the memory of those that serve.

use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};

/// A process that ends with its owner.
pub struct Running(pub Child);

impl Running {
    /// Starts it.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        Ok(Self(command.spawn()?))
    }

    /// Stops it, as a terminal's ^Z would.
    pub fn stop(&self) -> anyhow::Result<()> {
        Ok(kill_process(Pid::from_child(&self.0), Signal::STOP)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Memory of all processes of some names, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// How many there are.
    pub processes: usize,
    /// Resident.
    pub resident: u64,
    /// Of it, what isn't a page of a file, which others may share.
    pub anonymous: u64,
}

/// The gateway's replicas, as the kernel names them.
pub const GATEWAY: &[&str] = &["sparks-gateway"];
/// The guests: PID 1 of every Spark, and one for every connection.
pub const GUEST: &[&str] = &["sparks-guest", "sparks-ssh"];

/// Memory of the programs of these names, if the machine that runs them is this one.
pub fn memory(names: &[&str]) -> std::io::Result<Memory> {
    let mut sum = Memory::default();
    for entry in std::fs::read_dir("/proc")? {
        // A process that has ended meanwhile has no status.
        let Ok(status) = std::fs::read_to_string(entry?.path().join("status")) else { continue };
        let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map_or("", str::trim);
        if names.contains(&field("Name:")) {
            let kib = |key| field(key).split(' ').next().and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
            sum.processes += 1;
            sum.resident += kib("VmRSS:");
            sum.anonymous += kib("RssAnon:");
        }
    }
    Ok(sum)
}
