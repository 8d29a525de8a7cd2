#![allow(clippy::unwrap_used)]
mod gateway;
use gateway::*;
use tokio::io::AsyncBufReadExt;
fn rss() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    text.lines().find(|l| l.starts_with("VmRSS")).unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory() {
    let g = Gateway::start(Options::default()).await;
    let _guest = g.api().await;
    let n = 100;
    let mut all = Vec::new();
    let start = rss();
    for i in 0..2 {
        let before = rss();
        let mut clients = Vec::new();
        for _ in 0..n {
            let args: Vec<&str> = if i == 0 { vec!["-o", "HostKeyAlias=api.team-a", "-o", "HostName=127.0.0.2", "-o", PORT.get_or_init(|| format!("Port={}", g.guest_port())), "dev@direct", "wait"] } else { vec!["api.team-a@gw", "wait"] };
            let mut c = g.ssh(&args).stderr(std::process::Stdio::inherit()).spawn().unwrap();
            let mut lines = tokio::io::BufReader::new(c.stdout.take().unwrap()).lines();
            assert_eq!(lines.next_line().await.unwrap().unwrap(), "waiting");
            clients.push((c, lines));
        }
        tokio::time::sleep(std::time::Duration::from_secs(4)).await;
        println!("round {i}: {} KiB each (from {start})", (rss() - before) / n);
        all.push(clients);
    }
}
static PORT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
