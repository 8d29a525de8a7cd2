//! Resident memory of the programs on this machine.

use std::collections::BTreeMap;

/// Programs, as the kernel names them (15 characters at most), and what people call them.
const PROGRAMS: [(&str, &str); 3] =
    [("sparks-controll", "controller"), ("sparks-node", "node agent"), ("sparks-guest", "guest, each")];

/// The largest resident size of each program, in KiB, with the number of its processes.
pub fn resident() -> anyhow::Result<BTreeMap<&'static str, (u64, usize)>> {
    let mut all: BTreeMap<&'static str, (u64, usize)> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        // A process that has ended meanwhile has no status.
        let Ok(status) = std::fs::read_to_string(entry?.path().join("status")) else { continue };
        let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let Some((_, name)) = PROGRAMS.iter().find(|(program, _)| field("Name:") == Some(program)) else {
            continue;
        };
        let kib: u64 = field("VmRSS:")
            .and_then(|v| v.split(' ').next())
            .and_then(|v| v.parse().ok())
            .unwrap_or_default();
        let (most, count) = all.entry(*name).or_insert((0, 0));
        *most = kib.max(*most);
        *count += 1;
    }
    Ok(all)
}
