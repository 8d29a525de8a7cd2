//! The tables of this benchmark.

use std::path::Path;

use sparks_tests::report::{HEAD, Row, heading, median, percentile, print_and_store};

use crate::{
    crowd::Crowd,
    http::Firsts,
    keystrokes::{Echoes, Load},
    logins::Logins,
    route::Route,
    sleeping::Wakes,
    stalled::{Growth, Manner},
    throughput::Speeds,
    world::World,
};

/// What was measured so far.
pub struct Report {
    versions: [String; 2],
    throughput: Vec<String>,
    times: Vec<Row>,
    memory: Vec<String>,
}

impl Report {
    /// Nothing yet.
    pub fn new(world: &World) -> Self {
        Self { versions: world.versions.clone(), throughput: vec![], times: vec![], memory: vec![] }
    }

    /// Medians, and their ratios to the sshd's of the same copying.
    pub fn throughput(&mut self, all: &[Speeds]) {
        for speeds in all {
            let of = |route| {
                let base = all.iter().find(|other| other.what == speeds.what && other.route == route);
                base.map_or(f64::NAN, |base| middle(&speeds.runs) / middle(&base.runs))
            };
            let runs: Vec<_> = speeds.runs.iter().map(|speed| format!("{speed:.0}")).collect();
            self.throughput.push(format!(
                "| {} | {} | {:.0} | {} | {:.2} | {:.2} |",
                speeds.what,
                speeds.route.title(),
                middle(&speeds.runs),
                runs.join(" "),
                of(Route::Sshd),
                of(Route::SshdAlike)
            ));
        }
    }

    /// Echoes, and how far they are from the sshd's.
    pub fn keystrokes(&mut self, all: &[Echoes]) {
        for echoes in all {
            let what = match echoes.load {
                Load::Idle => "idle",
                Load::SameConnectionFrom => "another channel receives",
                Load::SameConnectionInto => "another channel sends",
                Load::OtherConnection => "another connection receives",
            };
            let bar = if echoes.load == Load::Idle { 1 } else { 5 };
            let base = all.iter().find(|other| other.load == echoes.load && other.route == Route::Sshd);
            let row = Row::new(&format!("keystroke, {what}: {}", echoes.route.title()), &echoes.times);
            let note = base.filter(|_| echoes.route == Route::Gateway).map(|base| {
                let more = percentile(&echoes.times, 99) - percentile(&base.times, 99);
                format!("p99 {more:+.1} ms to sshd; at most +{bar}")
            });
            self.times.push(row.note(note.unwrap_or_default()));
        }
    }

    /// Logins, and how far they are from the sshd's.
    pub fn logins(&mut self, all: &[Logins]) {
        let base =
            all.iter().find(|logins| logins.route == Route::Sshd).map_or(f64::NAN, |l| median(&l.times));
        for logins in all {
            let mut note = format!("{:+.1} ms to sshd", median(&logins.times) - base);
            if logins.route == Route::Gateway {
                note += "; at most +15";
            }
            self.times.push(Row::new(&format!("login: {}", logins.route.title()), &logins.times).note(note));
        }
    }

    /// Wakes by ssh.
    pub fn sleeping(&mut self, wakes: &Wakes) {
        let note = "at most 150".to_owned();
        self.times.push(Row::new("login into a Spark that sleeps, by the gateway", &wakes.total).note(note));
        self.times.push(Row::new("  of it: claim, snapshot, attach", &wakes.controller));
    }

    /// First bytes.
    pub fn http(&mut self, firsts: &Firsts) {
        let note = format!("at most 200; {}", firsts.service);
        self.times.push(Row::new("first HTTP byte of a Spark that sleeps", &firsts.asleep).note(note));
        self.times.push(Row::new("first HTTP byte of one that runs", &firsts.awake));
        self.times.push(Row::new("  without the gateway", &firsts.direct));
    }

    /// Many connections.
    pub fn crowd(&mut self, crowd: &Crowd) {
        let (wanted, rate) = crowd.wanted;
        let what = format!("{wanted} connections, {rate} new each second");
        self.memory.push(format!(
            "| {what}: held | {} | {} |",
            crowd.held,
            crowd.error.as_deref().unwrap_or("no error")
        ));
        let [before, during, after] = crowd.gateway;
        let each = |now: u64, then: u64| per(now, then, crowd.held);
        self.memory.push(format!(
            "| gateway, resident, each of them | {:.0} KiB | {} MiB before, {} MiB with them, {} MiB after them, {} replicas; at most 100 KiB |",
            each(during.resident, before.resident), before.resident >> 10, during.resident >> 10, after.resident >> 10, during.processes
        ));
        let [before, during] = crowd.guests;
        self.memory.push(format!(
            "| guest's process, each of them | {:.0} KiB | of its own, without pages of its file |",
            each(during.anonymous, before.anonymous)
        ));
        self.times.push(Row::new(&format!("login: gateway with {} connections", crowd.held), &crowd.logins));
    }

    /// Clients that never read.
    pub fn stalled(&mut self, all: &[Growth]) {
        for growth in all {
            let manner = match growth.manner {
                Manner::Window => "channel is never read",
                Manner::Socket => "connection is never read",
            };
            let clients = i64::try_from(growth.clients).unwrap_or(1);
            for (what, [early, late]) in [("gateway", growth.gateway), ("guest", growth.guests)] {
                self.memory.push(format!(
                    "| {what}, each of {clients} whose {manner} | {} KiB | {} KiB 15 s earlier |",
                    late / clients,
                    early / clients
                ));
            }
        }
    }

    /// Prints the tables and stores them.
    pub fn print_and_store(&self, results: &Path) -> anyhow::Result<()> {
        Ok(print_and_store(&self.text(), results, "-ssh")?)
    }

    fn text(&self) -> String {
        let mut lines = heading();
        let [client, sshd] = &self.versions;
        lines.push(format!("Client: {client}. The sshd, in a Spark of its own: {sshd}. Client, gateway and both servers share this machine's CPUs."));
        if !self.throughput.is_empty() {
            lines.extend(
                [
                    "",
                    "The bar: gateway at least 0.5 of sshd, jump host and `spark ssh` at least 0.9. Alike: with aes256-gcm, \
                     which `spark ssh-config` asks for, where OpenSSH of before 10 prefers what is slower.",
                    "",
                ]
                .map(String::from),
            );
            lines.extend(
                ["| copying | by | MiB/s | runs | of sshd | of sshd, alike |", "|---|---|---|---|---|---|"]
                    .map(String::from),
            );
            lines.extend(self.throughput.iter().cloned());
        }
        if !self.times.is_empty() {
            lines.extend(
                ["", "Milliseconds. A login is `ssh HOST true`, from its start to its end.", ""]
                    .map(String::from),
            );
            lines.extend(HEAD.map(String::from));
            lines.extend(self.times.iter().map(Row::line));
        }
        if !self.memory.is_empty() {
            lines.extend(["", "| many, and slow | | |", "|---|---|---|"].map(String::from));
            lines.extend(self.memory.iter().cloned());
        }
        lines.join("\n") + "\n"
    }
}

fn middle(runs: &[f64]) -> f64 {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[allow(clippy::cast_precision_loss, reason = "sizes are small")]
fn per(now: u64, then: u64, count: usize) -> f64 {
    (now as f64 - then as f64) / count as f64
}
