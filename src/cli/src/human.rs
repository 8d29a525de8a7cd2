//! Times, sizes and texts as a person reads them.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What stands for nothing in a table, as in kubectl.
pub const NONE: &str = "<none>";

/// How long ago, as kubectl writes it: `5s`, `3m20s`, `4h`, `2d3h`.
pub fn age(since: Option<&Time>, now: Timestamp) -> String {
    since.map_or_else(|| "<unknown>".into(), |since| span(now.duration_since(since.0).as_secs()))
}

/// A length of time in two units at most.
pub fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |big: i64, unit: &str, rest: i64, small: &str| match rest {
        0 => format!("{big}{unit}"),
        rest => format!("{big}{unit}{rest}{small}"),
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        _ => format!("{days}d"),
    }
}

/// How long something took: `23 ms`, `1.2 s`.
pub fn took(duration: Duration) -> String {
    match duration.as_micros() {
        micros @ 0..10_000 => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
        10_000..1_000_000 => format!("{} ms", duration.as_millis()),
        1_000_000..100_000_000 => format!("{:.1} s", duration.as_secs_f64()),
        _ => span(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)),
    }
}

/// Bytes in binary units: `512B`, `1.5Mi`, `20Gi`.
pub fn bytes(bytes: i64) -> String {
    let mut amount = bytes.max(0) as f64;
    let mut units = ["B", "Ki", "Mi", "Gi", "Ti", "Pi"].into_iter().peekable();
    let mut unit = units.next().unwrap_or_default();
    // What would be rounded up to 1024 is one of the next unit.
    while amount >= 1023.95 && units.peek().is_some() {
        amount /= 1024.0;
        unit = units.next().unwrap_or_default();
    }
    let digits = usize::from(amount < 99.95);
    let number = format!("{amount:.digits$}");
    format!("{}{unit}", number.strip_suffix(".0").unwrap_or(&number))
}

/// The text without what would steer a terminal; some of it comes from inside Sparks.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c == '\n' || c == '\t' { ' ' } else { c }).filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_written_as_kubectl_does() {
        let cases = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (3600, "60m"),
            (10_800, "3h"),
            (12_000, "3h20m"),
            (90_000, "25h"),
            (180_000, "2d2h"),
            (864_000, "10d"),
            (-5, "0s"),
        ];
        for (seconds, text) in cases {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn bytes_have_three_digits_at_most_and_a_binary_unit() {
        let cases = [
            (0, "0B"),
            (512, "512B"),
            (16 << 10, "16Ki"),
            (1_572_864, "1.5Mi"),
            (20 << 30, "20Gi"),
            (1_048_575, "1Mi"),
            (-1, "0B"),
        ];
        for (amount, text) in cases {
            assert_eq!(bytes(amount), text, "{amount}");
        }
    }

    #[test]
    fn short_times_are_told_in_milliseconds() {
        let cases = [(350, "0.3 ms"), (23_000, "23 ms"), (1_250_000, "1.2 s"), (300_000_000, "5m")];
        for (micros, text) in cases {
            assert_eq!(took(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn nothing_from_a_spark_steers_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\nc\u{7}"), "a[31mb c");
    }
}
