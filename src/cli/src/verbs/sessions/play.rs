//! Playing a recording.

use std::io::Write;
use std::time::Duration;

use crate::errors::CliError;
use crate::terminal::RawMode;

/// Writes what the terminal showed, with the pauses that there were.
pub async fn play(cast: &str, speed: f64, longest: Duration) -> Result<(), CliError> {
    // So that keys that are pressed meanwhile don't show.
    let _raw = RawMode::enter().ok();
    let mut out = std::io::stdout();
    for (since, data) in outputs(cast) {
        let pause = Duration::from_secs_f64((since / speed).clamp(0.0, longest.as_secs_f64()));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = interrupted() => break,
        }
        out.write_all(data.as_bytes())?;
        out.flush()?;
    }
    // Whatever the last program left of the terminal's state.
    out.write_all(b"\x1b[0m\x1b[?25h\r\n")?;
    Ok(out.flush()?)
}

/// Ctrl-C as a byte, because the terminal is raw. Without a terminal there is none.
async fn interrupted() {
    use tokio::io::AsyncReadExt;
    let mut key = [0];
    while matches!(tokio::io::stdin().read(&mut key).await, Ok(1)) {
        if [3, b'q'].contains(&key[0]) {
            return;
        }
    }
    std::future::pending().await
}

/// Seconds since the last one, and what was shown.
fn outputs(cast: &str) -> impl Iterator<Item = (f64, String)> {
    let mut since = 0.0;
    let events = cast.lines().filter_map(|line| serde_json::from_str::<(f64, String, String)>(line).ok());
    events.filter_map(move |(pause, code, data)| {
        since += pause;
        (code == "o").then(|| (std::mem::take(&mut since), data))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_before_events_that_show_nothing_are_kept() {
        let cast = "{\"version\":3}\n[1.0,\"o\",\"a\"]\n[0.5,\"r\",\"80x24\"]\n# x\n[0.5,\"o\",\"b\"]\n";
        let all: Vec<_> = outputs(cast).collect();
        assert_eq!(all, [(1.0, "a".to_owned()), (1.0, "b".to_owned())]);
    }
}
