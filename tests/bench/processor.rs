//! Processor time of the programs of a cluster whose control plane is on this machine.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    claims::Claims,
    contender::{Contender, names},
    forks::Forks,
};

/// What all contenders need: programs as the kernel names them (15 characters at most), and what people call them.
const SHARED: [(&str, &str); 9] = [
    ("kube-apiserver", API_SERVER),
    ("etcd", "etcd"),
    ("kubelet", "kubelet"),
    ("containerd", "containerd, shims, runc"),
    ("containerd-shim", "containerd, shims, runc"),
    ("runc", "containerd, shims, runc"),
    ("kube-controller", "controller manager"),
    ("kube-scheduler", "scheduler"),
    ("kube-proxy", "kube-proxy"),
];
/// The name of the part that serves the API.
pub const API_SERVER: &str = "API server";

/// Before each series: what is spent in any case.
const IDLE: Duration = Duration::from_secs(8);
/// After each series: what comes behind, such as the kubelet's news.
const SETTLE: Duration = Duration::from_secs(4);
/// Warm pods that are left at the end of a series.
const SPARE: usize = 3;
/// Starts in a series, so few that no pool makes pods meanwhile.
const SERIES: usize = 30;
/// Series of each contender.
const ROUNDS: usize = 3;

/// Milliseconds of processor by part.
#[derive(Clone, Default)]
pub struct Spent(pub BTreeMap<&'static str, f64>);

/// What one start costs.
pub struct Processor {
    /// A fork.
    pub fork: Spent,
    /// A claim.
    pub claim: Option<Spent>,
}

impl Spent {
    /// Of all parts together.
    pub fn total(&self) -> f64 {
        self.0.values().sum()
    }

    fn add(&mut self, other: &Self, times: f64) {
        for (part, ms) in &other.0 {
            *self.0.entry(*part).or_default() += ms * times;
        }
    }
}

/// Counts from a moment on what the parts spend beyond what they spend when nothing happens.
pub struct Meter {
    programs: Vec<(&'static str, &'static str)>,
    idle_per_second: Spent,
    start: Instant,
    before: BTreeMap<u32, Process>,
}

struct Process {
    part: &'static str,
    ms: f64,
}

impl Meter {
    /// Watches the idle cluster for a while, and starts. `own` are programs beside those that every contender needs.
    pub async fn start(own: &[(&'static str, &'static str)]) -> anyhow::Result<Self> {
        let programs = [&SHARED, own].concat();
        let mut meter = Self {
            before: processes(&programs)?,
            start: Instant::now(),
            idle_per_second: Spent::default(),
            programs,
        };
        tokio::time::sleep(IDLE).await;
        let mut per_second = Spent::default();
        per_second.add(&meter.spent()?, 1.0 / meter.start.elapsed().as_secs_f64());
        meter.idle_per_second = per_second;
        (meter.start, meter.before) = (Instant::now(), processes(&meter.programs)?);
        Ok(meter)
    }

    /// What was spent since the start.
    pub fn spent(&self) -> anyhow::Result<Spent> {
        let mut spent = Spent::default();
        for (id, process) in processes(&self.programs)? {
            let before = self.before.get(&id).map_or(0.0, |process| process.ms);
            *spent.0.entry(process.part).or_default() += process.ms - before;
        }
        spent.add(&self.idle_per_second, -self.start.elapsed().as_secs_f64());
        Ok(spent)
    }
}

/// What a fork and a claim cost, measured in turn.
pub async fn processor(forks: &Forks, claims: Option<&Claims>) -> anyhow::Result<Processor> {
    let (mut fork, mut claim) = (Spent::default(), Spent::default());
    if let Some(claims) = claims {
        claims.replace_later().await?;
    }
    for round in 0..ROUNDS {
        let prefix = format!("cost-{round}");
        fork.add(&series(forks, &prefix).await?, 1.0 / ROUNDS as f64);
        if let Some(claims) = claims {
            claim.add(&series(claims, &prefix).await?, 1.0 / ROUNDS as f64);
        }
    }
    Ok(Processor { fork, claim: claims.map(|_| claim) })
}

/// What one start of a series costs.
async fn series<C: Contender>(contender: &C, prefix: &str) -> anyhow::Result<Spent> {
    let names = names(prefix, SERIES);
    contender.fill(SERIES + SPARE).await?;
    let meter = Meter::start(C::PROGRAMS).await?;
    for name in &names {
        contender.start(name).await?;
    }
    // What was taken is not made again.
    contender.resize(SPARE).await?;
    tokio::time::sleep(SETTLE).await;
    let mut each = Spent::default();
    each.add(&meter.spent()?, 1.0 / SERIES as f64);
    contender.delete(&names).await?;
    contender.fill(SPARE).await?;
    Ok(each)
}

/// The processes of these programs, with the time that they and their children that have ended took.
fn processes(programs: &[(&'static str, &'static str)]) -> anyhow::Result<BTreeMap<u32, Process>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that has ended meanwhile has no file.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((name, ticks)) = name_and_ticks(&stat) else { continue };
        if let Some((_, part)) = programs.iter().find(|(program, _)| *program == name) {
            let ms = ticks as f64 * 1e3 / rustix::param::clock_ticks_per_second() as f64;
            all.insert(id, Process { part, ms });
        }
    }
    Ok(all)
}

/// The name between the parentheses, and utime, stime, cutime and cstime together: fields 14 to 17 of proc(5).
fn name_and_ticks(stat: &str) -> Option<(&str, u64)> {
    let (head, tail) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let times: Option<Vec<u64>> =
        tail.split_whitespace().skip(11).take(4).map(|field| field.parse().ok()).collect();
    Some((name, times?.iter().sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_children_that_have_ended_counts() {
        let stat = "12 (a) b) S 1 12 12 0 -1 4194560 900 0 5 0 7 3 20 10 20 0 1 0 100 0 0";
        assert_eq!(name_and_ticks(stat), Some(("a) b", 40)));
        assert_eq!(name_and_ticks("12 (gone"), None);
    }
}
