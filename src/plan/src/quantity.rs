//! Kubernetes quantities as numbers.
//!
//! Grammar: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Billionths that a quantity counts, the finest unit that Kubernetes knows.
const NANO: f64 = 1e9;

/// The quantity in billionths of its unit; `None` when it is no quantity.
#[must_use]
pub fn nanos(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.trim();
    let end = text
        .char_indices()
        .find(|(i, c)| !(c.is_ascii_digit() || *c == '.' || (*i == 0 && matches!(c, '+' | '-'))))
        .map_or(text.len(), |(i, _)| i);
    let number: f64 = text[..end].parse().ok()?;
    let value = number * scale(&text[end..])? * NANO;
    // 2^126 leaves room for sums.
    #[allow(clippy::cast_possible_truncation)]
    (value.is_finite() && value.abs() < 8.5e37).then_some(value.round() as i128)
}

/// The quantity in whole units, rounded up, as bytes are; `None` when it is no quantity or negative.
#[must_use]
pub fn units(quantity: &Quantity) -> Option<u64> {
    let nanos = nanos(quantity)?;
    u64::try_from((nanos + 999_999_999).div_euclid(1_000_000_000)).ok()
}

fn scale(suffix: &str) -> Option<f64> {
    Some(match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        other => 10f64.powi(other.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_amount_is_the_same_number_however_it_is_written() {
        for (a, b) in [("1", "1000m"), ("1Gi", "1024Mi"), ("1e3", "1k"), ("0.5", "500m"), ("2E", "2e18")] {
            assert_eq!(nanos(&Quantity(a.into())), nanos(&Quantity(b.into())), "{a} and {b}");
        }
    }

    #[test]
    fn bytes_are_whole() {
        assert_eq!(units(&Quantity("20Gi".into())), Some(20 << 30));
        assert_eq!(units(&Quantity("1500m".into())), Some(2));
        for bad in ["", "x", "1Zi", "-1", "1.2.3", "Gi"] {
            assert_eq!(units(&Quantity(bad.into())), None, "{bad}");
        }
    }
}
