//! Sizes on the command line: Kubernetes' quantities of bytes, such as 256Mi.

const UNITS: [(&str, u64); 11] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("", 1),
];

/// Bytes of a quantity, rounded up.
///
/// # Errors
/// A sentence about a text that is none.
pub fn parse(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = UNITS.iter().find(|(name, _)| *name == &text[digits.len()..]);
    let is_digit = |c: char| c.is_ascii_digit();
    let is_number = digits.starts_with(is_digit)
        && digits.ends_with(is_digit)
        && digits.chars().all(|c| is_digit(c) || c == '.');
    match (unit, digits.parse::<f64>()) {
        // A float saturates, and is exact for all that any volume has.
        (Some((_, unit)), Ok(number)) if is_number => Ok((number * *unit as f64).ceil() as u64),
        _ => Err(format!("{text:?} is no size: use a quantity such as 256Mi")),
    }
}

/// The shortest exact way to write it.
#[must_use]
pub fn text(bytes: u64) -> String {
    let binary = UNITS[..5].iter().rev().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    binary.map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_and_written() {
        for (written, bytes) in [("0", 0), ("1", 1), ("1023", 1023), ("256Mi", 256 << 20), ("4Gi", 4 << 30)] {
            assert_eq!((parse(written), text(bytes).as_str()), (Ok(bytes), written));
        }
        assert_eq!((parse("1.5Gi"), parse("2k"), parse("0.5")), (Ok(3 << 29), Ok(2000), Ok(1)));
        for bad in ["", "Mi", "-1", "1mi", "1 Mi", "1e3", "inf", "NaN", ".5", "1.Gi", "ä"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
