//! Times and durations as the API writes them.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Parses a positive duration in Go's notation (`72h`, `1h30m`, `500ms`), as the schema admits it.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |i| digits + i);
        let seconds = match &rest[digits..unit_end] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = &rest[unit_end..];
    }
    (!total.is_zero()).then_some(total)
}

/// `time + duration`, saturating at the largest representable time.
#[must_use]
pub fn later(time: &Time, duration: Duration) -> Time {
    Time(time.0.saturating_add(duration).unwrap_or(jiff::Timestamp::MAX))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_gos_notation_are_read() {
        for (text, seconds) in [("72h", 259_200.0), ("1h30m", 5400.0), ("500ms", 0.5), ("1.5h", 5400.0)] {
            assert_eq!(parse_duration(text).unwrap().as_secs_f64(), seconds, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_positive_duration_is_refused() {
        for text in ["", "0s", "-1h", "5", "h", "1d", "1h-", "999999999999999999999h"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
